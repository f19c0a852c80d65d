package io.github.llmtflite.core

import java.util.Random
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource

class Utf8AssemblerTest {
    @ParameterizedTest
    @ValueSource(strings = ["", "plain", "é", "naïve café", "你好，世界", "👩‍👩‍👧", "a\u0000b", "\uFEFFx", "\uD83D\uDE00\uD83D\uDE00"])
    fun `a text that comes byte by byte is the text, and whole at every step`(text: String) {
        val assembler = Utf8Assembler()
        val pieces = text.encodeToByteArray().map { assembler.push(byteArrayOf(it)) }
        assertEquals(text, pieces.joinToString("") + assembler.finish())
        assertEquals(emptyList<String>(), pieces.filter { it.isNotEmpty() && it.last().isHighSurrogate() })
    }

    @ParameterizedTest(name = "{0} gives {1}")
    @CsvSource(
        "80, FFFD", "C0 AF, FFFD FFFD", "C1 BF, FFFD FFFD", "E2 82, FFFD", "E2 28 A1, FFFD 28 FFFD", "F0 9F 98, FFFD",
        "F0 80 80 80, FFFD FFFD FFFD FFFD", "E0 9F 80, FFFD FFFD FFFD", "ED A0 80, FFFD FFFD FFFD",
        "F4 90 80 80, FFFD FFFD FFFD FFFD", "F5 80, FFFD FFFD", "FF, FFFD", "F0 9F C3 A9, FFFD E9",
        "E2 82 E2 82 AC, FFFD 20AC", "C3 C3 A9, FFFD E9",
    )
    fun `one replacement stands for each maximal part that is not UTF-8`(bytes: String, expected: String) {
        val assembler = Utf8Assembler()
        val text = assembler.push(bytesOf(bytes)) + assembler.finish()
        assertEquals(expected, text.map { "%X".format(it.code) }.joinToString(" "))
    }

    // Java's decoder takes a surrogate (ED A0 and above) for one part, so ED is left out.
    @Test
    fun `bytes of any kind give what the decoder of Java gives, however they are cut`() {
        val random = Random(5)
        repeat(2_000) {
            val bytes = ByteArray(random.nextInt(24)) { ALPHABET[random.nextInt(ALPHABET.size)] }
            val assembler = Utf8Assembler()
            val cut = random.nextInt(bytes.size + 1)
            val text = assembler.push(bytes.copyOfRange(0, cut)) + assembler.push(bytes.copyOfRange(cut, bytes.size))
            assertEquals(String(bytes, Charsets.UTF_8), text + assembler.finish())
        }
    }

    @Test
    fun `after finish the next byte begins a new text`() {
        val assembler = Utf8Assembler()
        assertEquals("", assembler.push(bytesOf("F0 9F")))
        assertEquals("\uFFFD", assembler.finish())
        assertEquals("a", assembler.push(bytesOf("61")))
        assertEquals("", assembler.finish())
    }

    private fun bytesOf(hex: String) = hex.split(' ').map { it.toInt(16).toByte() }.toByteArray()

    private companion object {
        val ALPHABET = listOf(0x41, 0x80, 0x9F, 0xA0, 0xBF, 0xC2, 0xE0, 0xE2, 0xF0, 0xF4, 0xF5, 0x8F, 0x90)
            .map { it.toByte() }
    }
}
