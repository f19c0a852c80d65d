package io.github.llmtflite.core

/**
 * Turns the bytes of tokens into text that is whole at every step.
 *
 * A character may be spread over several tokens; its bytes wait here until the last one arrives. The pieces joined
 * are the text of all bytes, with one U+FFFD for each maximal part of a sequence that is not UTF-8 (the "replace"
 * of Python, the WHATWG's decoder). The decoders of Java and Android differ in such parts, so neither is used.
 */
class Utf8Assembler {
    private var codePoint = 0
    private var missing = 0

    // The range of the next byte; its first continuation byte decides whether a sequence is overlong or a surrogate.
    private var lower = FIRST_CONTINUATION
    private var upper = LAST_CONTINUATION

    /** The characters that [bytes] complete. */
    fun push(bytes: ByteArray): String {
        val text = StringBuilder(bytes.size)
        for (byte in bytes) add(byte.toInt() and 0xFF, text)
        return text.toString()
    }

    /** U+FFFD for a character that will never be completed, else nothing; the next byte begins a new text. */
    fun finish(): String {
        val text = if (missing > 0) REPLACEMENT.toString() else ""
        begin()
        return text
    }

    private fun add(byte: Int, text: StringBuilder) {
        if (missing == 0) {
            addFirst(byte, text)
        } else if (byte in lower..upper) {
            lower = FIRST_CONTINUATION
            upper = LAST_CONTINUATION
            codePoint = (codePoint shl 6) or (byte and 0x3F)
            if (--missing == 0) text.appendCodePoint(codePoint)
        } else {
            text.append(REPLACEMENT)
            begin()
            addFirst(byte, text)
        }
    }

    private fun addFirst(byte: Int, text: StringBuilder) {
        when (byte) {
            in 0x00..0x7F -> text.append(byte.toChar())
            in 0xC2..0xDF -> expect(1, byte and 0x1F)
            in 0xE0..0xEF -> {
                expect(2, byte and 0x0F)
                if (byte == 0xE0) lower = 0xA0
                if (byte == 0xED) upper = 0x9F
            }
            in 0xF0..0xF4 -> {
                expect(3, byte and 0x07)
                if (byte == 0xF0) lower = 0x90
                if (byte == 0xF4) upper = 0x8F
            }
            else -> text.append(REPLACEMENT)
        }
    }

    private fun expect(continuations: Int, bits: Int) {
        missing = continuations
        codePoint = bits
    }

    private fun begin() {
        missing = 0
        lower = FIRST_CONTINUATION
        upper = LAST_CONTINUATION
    }

    private companion object {
        const val FIRST_CONTINUATION = 0x80
        const val LAST_CONTINUATION = 0xBF
        const val REPLACEMENT = '\uFFFD'
    }
}
