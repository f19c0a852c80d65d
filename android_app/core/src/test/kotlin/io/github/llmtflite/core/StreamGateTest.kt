package io.github.llmtflite.core

import java.util.Random
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

class StreamGateTest {
    private val filter = ProfanityFilter.of("darn\nbad egg\n坏蛋")

    private fun pieces(gate: StreamGate, vararg texts: String) = texts.map(gate::push) + gate.finish()

    @Test
    fun `text that cannot begin a listed word passes at once`() {
        assertEquals(listOf("The ", "qu", "ick.", ""), pieces(StreamGate(filter), "The ", "qu", "ick."))
    }

    @Test
    fun `a beginning of a listed word waits until it is decided`() {
        assertEquals(listOf("oh ", "", "darted", ""), pieces(StreamGate(filter), "oh d", "ar", "ted"))
    }

    @Test
    fun `a whole listed word waits for what follows it`() {
        assertEquals(listOf("", "darned ", "no", ""), pieces(StreamGate(filter), "darn", "ed ", "no"))
        val gate = StreamGate(filter)
        assertEquals(listOf("so ", "", "", ""), pieces(gate, "so d", "arn", "."))
        assertEquals("darn", gate.match?.entry)
    }

    @Test
    fun `a phrase is held back from its first word on`() {
        assertEquals(listOf("a ", "", "bad elk", ""), pieces(StreamGate(filter), "a bad", " e", "lk"))
        assertEquals(listOf("a ", "", "", ""), pieces(StreamGate(filter), "a bad ", "egg", ", x"))
    }

    @Test
    fun `the end decides what was held back`() {
        assertEquals(listOf("", "ba"), pieces(StreamGate(filter), "ba"))
        val gate = StreamGate(filter)
        assertEquals(listOf("x ", ""), pieces(gate, "x darn"))
        assertNotNull(gate.match)
    }

    @Test
    fun `after a match nothing more comes`() {
        val gate = StreamGate(filter)
        assertEquals(listOf("你", "", "", ""), pieces(gate, "你坏", "蛋!", "more"))
        assertEquals(Match("坏蛋", 1, 3), gate.match)
    }

    @Test
    fun `a word that begins in the text before is found`() {
        val gate = StreamGate(filter, "Oh da")
        assertEquals(listOf("", "", ""), pieces(gate, "rn", " it"))
        assertEquals(Match("darn", 3, 7), gate.match)
        assertEquals(listOf("", "rk.", ""), pieces(StreamGate(filter, "Oh da"), "r", "k."))
    }

    @Test
    fun `a gate with an empty list holds nothing back`() {
        assertEquals(listOf("darn", ""), pieces(StreamGate(ProfanityFilter.of("")), "darn"))
    }

    @ParameterizedTest
    @ValueSource(longs = [1, 2, 3, 4])
    fun `however a text is cut, the gate lets through what comes before the first match, and only that`(seed: Long) {
        val random = Random(seed)
        val atoms = listOf("da", "rn", "bad", " ", "egg", "e", "坏", "蛋", "!", "4", "@", "x", ".", "\u0301", "😀", "\n")
        repeat(500) {
            val parts = List(random.nextInt(14)) { atoms[random.nextInt(atoms.size)] }
            val text = parts.joinToString("")
            val gate = StreamGate(filter)
            val released = parts.joinToString("") { gate.push(it) } + gate.finish()
            val match = filter.find(text)
            assertEquals(match, gate.match, text)
            assertEquals(if (match == null) text else text.substring(0, match.start), released, text)
            if (match == null) assertNull(filter.find(released))
        }
    }
}
