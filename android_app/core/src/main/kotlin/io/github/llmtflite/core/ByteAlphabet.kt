package io.github.llmtflite.core

/** GPT-2's printable stand-ins for the 256 bytes (`bytes_to_unicode` of openai/gpt-2). */
internal object ByteAlphabet {
    private val characters = CharArray(256)
    private val bytes = HashMap<Char, Byte>()

    init {
        var next = 256
        for (byte in 0..255) {
            val printable = byte in 0x21..0x7E || byte in 0xA1..0xAC || byte in 0xAE..0xFF
            characters[byte] = if (printable) byte.toChar() else (next++).toChar()
            bytes[characters[byte]] = byte.toByte()
        }
    }

    fun character(byte: Byte): Char = characters[byte.toInt() and 0xFF]

    /** The bytes of a piece; null where it is not written in this alphabet. */
    fun bytes(piece: String): ByteArray? {
        val result = ByteArray(piece.length)
        for (i in piece.indices) result[i] = bytes[piece[i]] ?: return null
        return result
    }
}
