package io.github.llmtflite.core

import io.github.llmtflite.core.SentencePieceModel.Kind

/** Cuts a text into the pieces whose scores have the greatest sum (Viterbi), as SentencePiece's unigram models do. */
internal class UnigramPieces(model: SentencePieceModel, private val unknown: Int) {
    private val scores = HashMap<String, Pair<Int, Float>>()
    private val longest: Int
    private val unknownScore: Float

    init {
        val normal = model.pieces.filter { it.kind == Kind.NORMAL }
        val greatest = normal.maxOfOrNull { it.score } ?: 0f
        unknownScore = (normal.minOfOrNull { it.score } ?: 0f) - UNKNOWN_PENALTY
        for ((id, piece) in model.pieces.withIndex()) {
            when (piece.kind) {
                Kind.NORMAL -> scores[piece.text] = id to piece.score
                // Longer than any sum of others, so that they are always found.
                Kind.USER_DEFINED -> scores[piece.text] =
                    id to piece.text.toByteArray().size * greatest - USER_DEFINED_PENALTY
                else -> {}
            }
        }
        longest = scores.keys.maxOfOrNull { it.length } ?: 1
    }

    /** The pieces of [text] and their ids. */
    fun best(text: String, symbols: List<SentencePieceTokenizer.Symbol>): List<Pair<String, Int>> {
        val reached = FloatArray(text.length + 1) { Float.NEGATIVE_INFINITY }
        val begins = IntArray(text.length + 1)
        val ids = IntArray(text.length + 1)
        reached[0] = 0f
        var begin = 0
        for (symbol in symbols) {
            val one = begin + symbol.text.length
            var hasOne = false
            for (end in begin + 1..minOf(text.length, begin + longest)) {
                val (id, score) = scores[text.substring(begin, end)] ?: continue
                if (end == one) hasOne = true
                offer(begin, end, id, score, reached, begins, ids)
            }
            if (!hasOne) offer(begin, one, unknown, unknownScore, reached, begins, ids)
            begin = one
        }
        val result = ArrayList<Pair<String, Int>>()
        var end = text.length
        while (end > 0) {
            result += text.substring(begins[end], end) to ids[end]
            end = begins[end]
        }
        return result.asReversed()
    }

    private fun offer(begin: Int, end: Int, id: Int, score: Float, reached: FloatArray, begins: IntArray, ids: IntArray) {
        val total = reached[begin] + score
        if (total > reached[end]) {
            reached[end] = total
            begins[end] = begin
            ids[end] = id
        }
    }

    private companion object {
        const val UNKNOWN_PENALTY = 10f
        const val USER_DEFINED_PENALTY = 0.1f
    }
}
