package io.github.llmtflite.core

import java.text.Normalizer

/** A byte-level tokenizer of byte pairs, from a `tokenizer.json`: GPT-2, Llama 3, Qwen and most others. */
internal class ByteLevelTokenizer private constructor(
    private val ids: Map<String, Int>,
    private val pairs: BytePairs,
    private val added: Map<Int, AddedToken>,
    private val normalForm: Normalizer.Form?,
    private val splits: List<WordSplit>,
    private val wholeWords: Boolean,
) : Tokenizer {
    class AddedToken(val text: String, val special: Boolean)

    override val vocabularySize: Int = (ids.values + added.keys).toSet().size

    // A byte without a token is left out, as by the tokenizers library where there is no token for the unknown.
    private val byteIds = List(256) { ids[ByteAlphabet.character(it.toByte()).toString()] }
    private val pieces = ids.entries.associate { (piece, id) -> id to piece }
    private val names = added.entries.sortedByDescending { it.value.text.length }

    override fun encode(text: String, specialTokens: Boolean): List<Int> {
        checkText(text)
        val result = ArrayList<Int>()
        var from = 0
        var at = 0
        while (at < text.length) {
            val name = names.firstOrNull { (!it.value.special || specialTokens) && text.startsWith(it.value.text, at) }
            if (name == null) {
                at++
                continue
            }
            encodePlain(text.substring(from, at), result)
            result += name.key
            at += name.value.text.length
            from = at
        }
        encodePlain(text.substring(from), result)
        return result
    }

    override fun tokenBytes(token: Int): ByteArray {
        added[token]?.let { return if (it.special) ByteArray(0) else it.text.toByteArray() }
        val piece = pieces[token] ?: return ByteArray(0)
        return ByteAlphabet.bytes(piece) ?: throw ModelError.Damaged("Token $token (\"$piece\") is not byte-level.")
    }

    private fun encodePlain(text: String, result: MutableList<Int>) {
        if (text.isEmpty()) return
        val normal = if (normalForm == null) text else Normalizer.normalize(text, normalForm)
        val words = splits.fold(listOf(normal)) { parts, split -> parts.flatMap(split::split) }
        for (word in words) {
            val bytes = word.toByteArray()
            val whole = if (wholeWords) ids[String(CharArray(bytes.size) { ByteAlphabet.character(bytes[it]) })] else null
            if (whole != null) {
                result += whole
            } else {
                result += pairs.merge(bytes.asList().mapNotNull { byteIds[it.toInt() and 0xFF] }.toIntArray())
            }
        }
    }

    companion object {
        /** Reads a `tokenizer.json`. */
        fun load(text: String): Tokenizer {
            val content = Json.parse(text)
            val model = content["model"]
            expect("the model", model.find("type")?.text(), "BPE")
            expect("the token for the unknown", model.find("unk_token")?.text().orEmpty(), "")
            expect("the decoder", content.find("decoder")?.get("type")?.text(), "ByteLevel")
            if (model.find("byte_fallback")?.flag() == true || model.find("dropout") != null) {
                throw ModelError.UnsupportedTokenizer("The tokenizer has byte_fallback or dropout, which are not supported.")
            }
            for (key in listOf("continuing_subword_prefix", "end_of_word_suffix")) {
                expect(key, model.find(key)?.text().orEmpty(), "")
            }
            val vocabulary = model["vocab"]
            val ids = vocabulary.keys.associateWith { vocabulary[it].int() }
            return ByteLevelTokenizer(
                ids,
                BytePairs(merges(model["merges"], ids)),
                content.find("added_tokens")?.list().orEmpty().associate { it["id"].int() to addedToken(it) },
                content.find("normalizer")?.let(::normalForm),
                content.find("pre_tokenizer")?.let(::splits).orEmpty(),
                model.find("ignore_merges")?.flag() == true,
            )
        }

        private fun merges(listed: Json, ids: Map<String, Int>): Map<Long, BytePairs.Merge> {
            val merges = HashMap<Long, BytePairs.Merge>()
            for ((rank, merge) in listed.list().withIndex()) {
                // Older files have "a b" instead of a list of two.
                val (left, right) = merge.pair()
                fun id(piece: String) = ids[piece] ?: throw JsonException("merge $rank needs the piece \"$piece\"")
                // A pair that is listed again counts where it comes last, as in the tokenizers library.
                merges[BytePairs.pair(id(left), id(right))] = BytePairs.Merge(rank, id(left + right))
            }
            return merges
        }

        private fun Json.pair(): List<String> {
            val parts = if (isList) list().map(Json::text) else text().split(' ')
            if (parts.size != 2) throw JsonException("a merge has ${parts.size} parts")
            return parts
        }

        private fun addedToken(token: Json): AddedToken {
            for (key in listOf("single_word", "lstrip", "rstrip")) {
                if (token.find(key)?.flag() == true) {
                    throw ModelError.UnsupportedTokenizer("The tokenizer has tokens with $key, which is not supported.")
                }
            }
            return AddedToken(token["content"].text(), token["special"].flag())
        }

        private fun normalForm(normalizer: Json): Normalizer.Form {
            val type = normalizer["type"].text()
            return Normalizer.Form.entries.firstOrNull { it.name == type }
                ?: throw ModelError.UnsupportedTokenizer("The tokenizer has the normalizer $type, which is not supported; Unicode's normal forms are.")
        }

        private fun splits(preTokenizer: Json): List<WordSplit> = when (val type = preTokenizer["type"].text()) {
            "Sequence" -> preTokenizer["pretokenizers"].list().flatMap(::splits)
            "ByteLevel" -> {
                if (preTokenizer.find("add_prefix_space")?.flag() == true) {
                    throw ModelError.UnsupportedTokenizer("The tokenizer has add_prefix_space, which is not supported.")
                }
                if (preTokenizer.find("use_regex")?.flag() == false) emptyList() else listOf(WordSplit.of(WordSplit.GPT2))
            }
            "Split" -> {
                expect("the behaviour of Split", preTokenizer["behavior"].text(), "Isolated")
                if (preTokenizer.find("invert")?.flag() == true) {
                    throw ModelError.UnsupportedTokenizer("The tokenizer has an inverted Split, which is not supported.")
                }
                val pattern = preTokenizer["pattern"]
                listOf(pattern.find("String")?.let { WordSplit.Literal(it.text()) } ?: WordSplit.of(pattern["Regex"].text()))
            }
            else -> throw ModelError.UnsupportedTokenizer("The tokenizer has the pre-tokenizer $type, which is not supported.")
        }

        private fun expect(what: String, found: String?, expected: String) {
            if (found != expected) {
                throw ModelError.UnsupportedTokenizer("As $what of the tokenizer, \"$expected\" was expected; it is \"${found.orEmpty()}\".")
            }
        }
    }
}
