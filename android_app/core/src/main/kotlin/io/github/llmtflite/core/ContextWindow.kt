package io.github.llmtflite.core

/** What the size of a window counts. */
enum class WindowUnit { WORDS, TOKENS }

/** Why the beginning of a text was left out. */
enum class TrimReason {
    /** It has more words or tokens than the window that was chosen. */
    WINDOW,

    /** What the window holds has more tokens than the model takes. */
    CONTEXT,
}

/**
 * The end of a text that goes into the model.
 *
 * @property text what the model is given.
 * @property unit what [kept] and [total] count.
 * @property kept how many words or tokens of the text that is.
 * @property total how many the whole text has.
 * @property trimmed why the beginning was left out; null if it was not.
 */
data class WindowedText(
    val text: String,
    val unit: WindowUnit,
    val kept: Int,
    val total: Int,
    val trimmed: TrimReason? = null,
)

/**
 * How much of the end of a text goes into the model.
 *
 * @property size words or tokens, at least 1.
 */
data class ContextWindow(val unit: WindowUnit, val size: Int) {
    init {
        require(size >= 1) { "a context window was expected to hold 1 or more ${unit.name.lowercase()}; got $size" }
    }

    /**
     * Cuts [text] to the window, and what is left to the context of [engine].
     *
     * Words that stay keep the separators between them and whatever follows the last one.
     */
    fun fit(text: String, engine: TextEngine): WindowedText {
        val windowed = when (unit) {
            WindowUnit.WORDS -> lastWords(text, size)
            WindowUnit.TOKENS -> lastTokens(text, size, engine, TrimReason.WINDOW)
        }
        val room = largest(engine.info.contextLength)
        if (engine.countTokens(windowed.text) <= room) return windowed
        return lastTokens(text, room, engine, TrimReason.CONTEXT)
    }

    companion object {
        /** Half of the context. */
        fun default(unit: WindowUnit, contextLength: Int): ContextWindow =
            ContextWindow(unit, (contextLength / 2).coerceIn(1, largest(contextLength)))

        /** The largest window of a model; a start token and one token of an answer have room beside it. */
        fun largest(contextLength: Int): Int = maxOf(1, contextLength - 2)

        /** The last [size] words: maximal runs of characters that are no spaces. */
        fun lastWords(text: String, size: Int): WindowedText {
            val starts = wordStarts(text)
            val total = starts.size
            if (total <= size) return WindowedText(text, WindowUnit.WORDS, total, total)
            return WindowedText(text.substring(starts[total - size]), WindowUnit.WORDS, size, total, TrimReason.WINDOW)
        }

        private fun lastTokens(text: String, size: Int, engine: TextEngine, reason: TrimReason): WindowedText {
            val total = engine.countTokens(text)
            if (total <= size) return WindowedText(text, WindowUnit.TOKENS, total, total)
            val end = engine.lastTokens(text, size)
            return WindowedText(end, WindowUnit.TOKENS, engine.countTokens(end), total, reason)
        }

        private fun wordStarts(text: String): List<Int> {
            val starts = ArrayList<Int>()
            var inWord = false
            var index = 0
            while (index < text.length) {
                val codePoint = text.codePointAt(index)
                val space = isSpace(codePoint)
                if (!space && !inWord) starts.add(index)
                inWord = !space
                index += Character.charCount(codePoint)
            }
            return starts
        }
    }
}
