package io.github.llmtflite.core

import java.util.Random
import kotlin.system.measureTimeMillis
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource

class ProfanityFilterTest {
    private val filter = ProfanityFilter.of(LIST)

    @ParameterizedTest
    @CsvSource(
        "darn, darn", "Oh DARN it, DARN", "d\u00E4rn, d\u00E4rn", "ｄａｒｎ it, ｄａｒｎ", "da\u200Brn, da\u200Brn",
        "d4rn, d4rn", "d@rn it, d@rn", "well: darn!, darn", "'the grand heck, no', grand heck",
        "GR4ND h3ck, GR4ND h3ck", "straße, straße", "STRASSE, STRASSE", "b455, b455", "(b@$$), b@$$", "dúrñ darn, darn",
        "真坏蛋。, 坏蛋", "a坏蛋b, 坏蛋", "나쁜놈아, 나쁜놈",
    )
    fun `a listed word is found however it is written`(text: String, found: String) {
        val match = checkNotNull(filter.find(text)) { "nothing was found in $text" }
        assertEquals(found, text.substring(match.start, match.end))
    }

    @ParameterizedTest
    @ValueSource(
        strings = [
            "", "darned", "a darning needle", "grandheck", "grand old heck", "heck", "455", "a 4 of 7", "dar n", "坏 蛋",
            "B. A. S. S", "da-rn", "\uD83D", "나쁜",
        ],
    )
    fun `what only looks like one is not`(text: String) {
        assertNull(filter.find(text))
    }

    @Test
    fun `words of a phrase may stand on two lines`() {
        assertEquals(Match("grand heck", 2, 13), filter.find("a grand\n HECK"))
    }

    @Test
    fun `the match names the entry and where it is in the text as it was written`() {
        assertEquals(Match("grand heck", 5, 15), filter.find("😀 a Grand HECK!"))
    }

    @Test
    fun `the match that ends first wins, and of two the one that begins first`() {
        assertEquals("bad", ProfanityFilter.of("bad egg\nbad").find("bad egg")?.entry)
        assertEquals("old egg", ProfanityFilter.of("egg\nold egg").find("old egg")?.entry)
    }

    @Test
    fun `a list has one entry on each line, with comments`() {
        val filter = ProfanityFilter.of("\uFEFF# about\n\n  one  # why\r\ntwo words\n#three\n")
        assertEquals(2, filter.size)
        assertNotNull(filter.find("ONE"))
        assertNotNull(filter.find("two, words"))
        assertNull(filter.find("three"))
    }

    @Test
    fun `an entry that would match nothing is refused by name`() {
        val error = assertThrows(UnusableEntry::class.java) { ProfanityFilter.of("fine\n!!!") }
        assertEquals("!!!", error.entry)
    }

    @Test
    fun `an empty list refuses nothing`() {
        assertNull(ProfanityFilter.of("# none").find("darn 坏蛋"))
    }

    @Test
    fun `twenty thousand entries cost one reading of the text`() {
        val random = Random(3)
        fun word() = String(CharArray(4 + random.nextInt(6)) { 'a' + random.nextInt(26) })
        val list = List(20_000) { if (it % 4 == 0) "${word()} ${word()}" else word() }
        val filter = ProfanityFilter.of(list.joinToString("\n"))
        val text = List(20_000) { "the quick" }.joinToString(" ")
        assertNull(filter.find(text))
        val milliseconds = measureTimeMillis { filter.find("$text ${list.last()}").let(::assertNotNull) }
        assertTrue(milliseconds < 5_000, "200,000 characters took $milliseconds ms")
    }

    private companion object {
        val LIST = "darn\ngrand heck\nstrasse\nbass\n坏蛋\n나쁜놈"
    }
}
