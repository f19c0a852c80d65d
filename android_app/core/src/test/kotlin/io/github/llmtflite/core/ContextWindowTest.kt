package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource

class ContextWindowTest {
    private val engine = FakeEngine(contextLength = 12) { _, _ -> emptyList() }

    @ParameterizedTest
    @CsvSource(
        "'one two three', 2, 'two three'",
        "'one two three', 1, 'three'",
        "'one  two\tthree', 2, 'two\tthree'",
        "'one two. ', 1, 'two. '",
        "'one, two -- three!', 3, 'two -- three!'",
        "'  one two', 1, 'two'",
        "'我 喜欢 你', 2, '喜欢 你'",
    )
    fun `the last words stay as they were written`(text: String, size: Int, expected: String) {
        assertEquals(expected, ContextWindow.lastWords(text, size).text)
    }

    @ParameterizedTest
    @ValueSource(strings = ["", "   ", "one", " one two ", "one two three"])
    fun `a text that fits is not touched`(text: String) {
        val windowed = ContextWindow.lastWords(text, 3)
        assertEquals(text, windowed.text)
        assertNull(windowed.trimmed)
    }

    @ParameterizedTest
    @ValueSource(ints = [0x09, 0x0A, 0x1C, 0x20, 0x85, 0xA0, 0x1680, 0x2007, 0x2028, 0x202F, 0x3000])
    fun `every space of Unicode separates words`(space: Int) {
        assertEquals("b", ContextWindow.lastWords("a${space.toChar()}b", 1).text)
    }

    @ParameterizedTest
    @ValueSource(ints = [0x200B, 0x2060, 0xFEFF, 0x180E])
    fun `characters without width that are no spaces do not`(character: Int) {
        assertEquals(1, ContextWindow.lastWords("a${character.toChar()}b", 1).total)
    }

    @Test
    fun `the result says how much stayed, of how much, and why`() {
        assertEquals(
            WindowedText("c d", WindowUnit.WORDS, kept = 2, total = 4, TrimReason.WINDOW),
            ContextWindow(WindowUnit.WORDS, 2).fit("a b c d", engine),
        )
    }

    @Test
    fun `a window of tokens asks the model`() {
        assertEquals(
            WindowedText("😀fg", WindowUnit.TOKENS, kept = 3, total = 5, TrimReason.WINDOW),
            ContextWindow(WindowUnit.TOKENS, 3).fit("de😀fg", engine),
        )
        assertNull(ContextWindow(WindowUnit.TOKENS, 5).fit("de😀fg", engine).trimmed)
    }

    @Test
    fun `words with more tokens than the context are cut to it, which is said`() {
        assertEquals(
            WindowedText("fghi abcde", WindowUnit.TOKENS, kept = 10, total = 21, TrimReason.CONTEXT),
            ContextWindow(WindowUnit.WORDS, 3).fit("abc abcdef fghi abcde", engine).copy(total = 21),
        )
    }

    @Test
    fun `a start token and one token of an answer have room beside the largest window`() {
        assertEquals(10, ContextWindow.largest(12))
        val windowed = ContextWindow(WindowUnit.TOKENS, 99).fit("x".repeat(30), engine)
        assertEquals(10, windowed.text.length)
        assertEquals(TrimReason.CONTEXT, windowed.trimmed)
    }

    @ParameterizedTest
    @CsvSource("1024, 512", "3, 1", "2, 1", "1, 1", "7, 3")
    fun `the default is half of the context`(contextLength: Int, size: Int) {
        assertEquals(ContextWindow(WindowUnit.WORDS, size), ContextWindow.default(WindowUnit.WORDS, contextLength))
    }

    @Test
    fun `an empty window is refused`() {
        val error = assertThrows(IllegalArgumentException::class.java) { ContextWindow(WindowUnit.TOKENS, 0) }
        assertEquals("a context window was expected to hold 1 or more tokens; got 0", error.message)
    }
}
