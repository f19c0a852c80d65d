package io.github.llmtflite.core

import io.github.llmtflite.core.SentencePieceModel.Kind
import java.util.PriorityQueue

/**
 * A SentencePiece model: Llama 1 and 2, Mistral, Gemma.
 *
 * Control pieces (`<s>`) are never found in text unless asked for; user-defined ones (Gemma's `<start_of_turn>`)
 * always are, as in Keras: for SentencePiece they are ordinary vocabulary.
 */
internal class SentencePieceTokenizer(private val model: SentencePieceModel) : Tokenizer {
    private val pieces = model.pieces
    private val ids = HashMap<String, Int>()
    private val byteIds = IntArray(256) { MISSING }
    private val controls = ArrayList<Pair<String, Int>>()
    private val userDefined: List<String>
    private val unknown: Int
    private val unigram: UnigramPieces?

    init {
        var unknownId = MISSING
        for ((id, piece) in pieces.withIndex()) {
            when (piece.kind) {
                Kind.CONTROL -> controls += piece.text to id
                Kind.UNKNOWN -> unknownId = id
                Kind.BYTE -> byteIds[byte(piece.text)] = id
                else -> ids[piece.text] = id
            }
        }
        if (unknownId == MISSING) throw ModelError.Damaged("The tokenizer has no piece for unknown characters.")
        unknown = unknownId
        if (model.byteFallback && MISSING in byteIds) throw ModelError.Damaged("The tokenizer lacks pieces for some bytes.")
        userDefined = pieces.filter { it.kind == Kind.USER_DEFINED && it.text.isNotEmpty() }.map { it.text }
            .sortedByDescending { it.length }
        controls.sortByDescending { it.first.length }
        unigram = if (model.unigram) UnigramPieces(model, unknown) else null
    }

    override val vocabularySize: Int get() = pieces.size

    override fun encode(text: String, specialTokens: Boolean): List<Int> {
        checkText(text)
        val result = ArrayList<Int>()
        if (!specialTokens) return result.also { encodePlain(text, it) }
        // The text between two control tokens is encoded on its own.
        var from = 0
        var at = 0
        while (at < text.length) {
            val control = controls.firstOrNull { it.first.isNotEmpty() && text.startsWith(it.first, at) }
            if (control == null) {
                at++
                continue
            }
            if (at > from) encodePlain(text.substring(from, at), result)
            result += control.second
            at += control.first.length
            from = at
        }
        if (from < text.length) encodePlain(text.substring(from), result)
        return result
    }

    override fun tokenBytes(token: Int): ByteArray {
        val piece = pieces.getOrNull(token) ?: return ByteArray(0)
        return when (piece.kind) {
            Kind.CONTROL -> ByteArray(0)
            Kind.BYTE -> byteArrayOf(byte(piece.text).toByte())
            Kind.UNKNOWN -> model.unknownSurface.toByteArray()
            else -> piece.text.replace(SPACE, ' ').toByteArray()
        }
    }

    private fun encodePlain(text: String, result: MutableList<Int>) {
        val normal = normalize(text)
        if (normal.isEmpty()) return
        val symbols = symbols(normal)
        val found = unigram?.best(normal, symbols) ?: merge(symbols)
        var afterUnknown = false
        for ((piece, id) in found) {
            if (id != unknown) {
                result += id
            } else if (model.byteFallback) {
                for (byte in piece.toByteArray()) result += byteIds[byte.toInt() and 0xFF]
            } else if (!afterUnknown) {
                result += unknown // SentencePiece joins unknown characters that stand together
            }
            afterUnknown = id == unknown
        }
    }

    /** SentencePiece's own steps around an identity normalizer. */
    private fun normalize(text: String): String {
        var normal = text
        if (model.removeExtraWhitespaces) normal = normal.trim(' ').replace(EXTRA_SPACES, " ")
        if (normal.isEmpty()) return normal
        if (model.addDummyPrefix) normal = " $normal"
        return normal.replace(' ', SPACE)
    }

    /** Characters, and user-defined pieces, which nothing cuts or joins. */
    private fun symbols(text: String): List<Symbol> {
        val symbols = ArrayList<Symbol>()
        var at = 0
        while (at < text.length) {
            val piece = userDefined.firstOrNull { text.startsWith(it, at) }
            val end = at + (piece?.length ?: Character.charCount(text.codePointAt(at)))
            symbols += Symbol(text.substring(at, end), frozen = piece != null)
            at = end
        }
        return symbols
    }

    /** Joins the pair of symbols that makes the best piece, of equals the leftmost, until none is left. */
    private fun merge(symbols: List<Symbol>): List<Pair<String, Int>> {
        for ((i, symbol) in symbols.withIndex()) {
            symbol.previous = i - 1
            symbol.next = if (i + 1 < symbols.size) i + 1 else MISSING
        }
        val parts = HashMap<String, Pair<String, String>>()
        val queue = PriorityQueue<Candidate>(compareBy({ -it.score }, { it.left }))
        fun offer(left: Int, right: Int) {
            if (left == MISSING || right == MISSING || symbols[left].frozen || symbols[right].frozen) return
            val joined = symbols[left].text + symbols[right].text
            val id = ids[joined] ?: return
            queue += Candidate(pieces[id].score, left, right, joined.length)
            // An unused piece may be passed through, but is cut again at the end.
            if (pieces[id].kind == Kind.UNUSED) parts[joined] = symbols[left].text to symbols[right].text
        }
        for (right in 1 until symbols.size) offer(right - 1, right)
        while (true) {
            val top = queue.poll() ?: break
            val left = symbols[top.left]
            val right = symbols[top.right]
            // A merge since then may have taken either side.
            if (left.text.isEmpty() || right.text.isEmpty() || left.text.length + right.text.length != top.length) continue
            left.text += right.text
            left.next = right.next
            if (right.next != MISSING) symbols[right.next].previous = top.left
            right.text = ""
            offer(left.previous, top.left)
            offer(top.left, left.next)
        }
        val result = ArrayList<Pair<String, Int>>()
        fun add(text: String) {
            val id = ids[text] ?: unknown
            val cut = if (id != unknown && pieces[id].kind == Kind.UNUSED) parts[text] else null
            if (cut == null) {
                result += text to id
            } else {
                add(cut.first)
                add(cut.second)
            }
        }
        symbols.filter { it.text.isNotEmpty() }.forEach { add(it.text) }
        return result
    }

    internal class Symbol(var text: String, val frozen: Boolean) {
        var previous = MISSING
        var next = MISSING
    }

    private class Candidate(val score: Float, val left: Int, val right: Int, val length: Int)

    private companion object {
        const val MISSING = -1
        const val SPACE = '\u2581'
        val EXTRA_SPACES = Regex(" {2,}")

        /** The byte of a piece such as `<0x0A>`. */
        fun byte(piece: String): Int = piece.removeSurrounding("<0x", ">").toIntOrNull(16)?.takeIf { it in 0..255 }
            ?: throw ModelError.Damaged("The tokenizer's piece \"$piece\" should stand for a byte.")
    }
}
