package io.github.llmtflite.core

/**
 * Whether a code point separates words: Unicode's separators and the control characters that Python's `str.isspace`
 * takes as well. `Character.isWhitespace` leaves out spaces that do not break a line.
 */
internal fun isSpace(codePoint: Int): Boolean = when (codePoint) {
    in 0x09..0x0D, in 0x1C..0x20, 0x85, 0xA0 -> true
    in 0x00..0xFF -> false
    else -> when (Character.getType(codePoint).toByte()) {
        Character.SPACE_SEPARATOR, Character.LINE_SEPARATOR, Character.PARAGRAPH_SEPARATOR -> true
        else -> false
    }
}
