package io.github.llmtflite.core

/** Text to token ids and back; as `llm_tflite/tokenizers.py`. Tokenizers hold no state. */
internal interface Tokenizer {
    /** How many tokens it knows; the model's own table may be longer. */
    val vocabularySize: Int

    /**
     * The ids of [text], without a start token.
     *
     * @param specialTokens whether the name of a control token (`<|endoftext|>`) stands for that token; otherwise
     *   it is text like any other, as a user may have typed it.
     */
    fun encode(text: String, specialTokens: Boolean = false): List<Int>

    /**
     * What one token adds to a continuation, in UTF-8, perhaps a part of a character; nothing for control and
     * unknown ids.
     */
    fun tokenBytes(token: Int): ByteArray

    companion object {
        /**
         * Loads a tokenizer from the form in which files carry it.
         *
         * @throws ModelError.Damaged the bytes are not such a tokenizer.
         * @throws ModelError.UnsupportedTokenizer it has a form that is not read here; the message names it.
         */
        fun load(kind: String, bytes: ByteArray): Tokenizer = try {
            when (kind) {
                "hf" -> ByteLevelTokenizer.load(bytes.toString(Charsets.UTF_8))
                "sentencepiece" -> SentencePieceTokenizer(SentencePieceModel.read(bytes))
                else -> throw ModelError.UnsupportedTokenizer(
                    "The file has a tokenizer of the kind \"$kind\"; \"hf\" or \"sentencepiece\" was expected.",
                )
            }
        } catch (e: JsonException) {
            throw ModelError.Damaged("The tokenizer cannot be read: ${e.message}.", e)
        }
    }
}

/** Refuses text without a UTF-8 form. */
internal fun checkText(text: String) {
    var at = 0
    while (at < text.length) {
        val codePoint = text.codePointAt(at)
        if (codePoint in 0xD800..0xDFFF) {
            throw ModelError.UnsuitableText("The character at position $at of the text is half of a surrogate pair.")
        }
        at += Character.charCount(codePoint)
    }
}
