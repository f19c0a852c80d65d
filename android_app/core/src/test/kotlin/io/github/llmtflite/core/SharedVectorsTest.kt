package io.github.llmtflite.core

import java.io.File
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory

/** The cases that the Python library passes too. */
class SharedVectorsTest {
    @TestFactory
    fun `the filter finds what Python's finds`() = cases("profanity.json") { case ->
        val text = case["text"].text()
        val match = ProfanityFilter(case["words"].texts()).find(text)
        val found = match?.let { Triple(it.entry, text.substring(0, it.start), text.substring(it.start, it.end)) }
        val expected = case.find("match")?.let { Triple(it["entry"].text(), it["before"].text(), it["matched"].text()) }
        assertEquals(expected, found)
    }

    @TestFactory
    fun `the gate lets through what Python's does, however the text is cut`() = cases("stream_gate.json") { case ->
        val filter = ProfanityFilter(case["words"].texts())
        val chunks = case["chunks"].texts()
        val text = chunks.joinToString("")
        val characters = text.codePoints().toArray().map { String(Character.toChars(it)) }
        for (cut in listOf(chunks, listOf(text), characters)) {
            val gate = StreamGate(filter)
            val released = cut.map(gate::push) + gate.finish()
            assertEquals(case["text"].text(), released.joinToString(""))
            assertEquals(case.find("entry")?.text(), gate.match?.entry)
            if (cut === chunks) checkSteps(case["released"].list(), released)
        }
    }

    private fun checkSteps(steps: List<Json>, released: List<String>) {
        for (step in steps) {
            val out = released.take(step["after_chunks"].int()).joinToString("")
            assertTrue(out.startsWith(step["at_least"].text()), "\"$out\" came too late")
            assertTrue(step["at_most"].text().startsWith(out), "\"$out\" came too early")
        }
    }

    @TestFactory
    fun `bytes become the same characters as in Python`() = cases("utf8.json") { case ->
        val assembler = Utf8Assembler()
        val steps = case["chunks_hex"].list().map { assembler.push(bytesOf(it.text())) }
        assertEquals(case["text"].text(), steps.joinToString("") + assembler.finish())
        case.find("steps")?.let { expected -> assertEquals(expected.list().map { it.text() }, steps) }
    }

    @TestFactory
    fun `a window of words keeps what Python's keeps`() = cases("context_window.json", { it["unit"].text() == "words" }) { case ->
        val windowed = ContextWindow(WindowUnit.WORDS, case["window"].int()).fit(case["text"].text(), longEngine)
        assertEquals(case["kept"].text(), windowed.text)
        checkLeftOut(case["left_out"].int(), windowed)
    }

    // The app's text and window have no start token in them; the engine adds that.
    @TestFactory
    fun `a window of tokens keeps what Python's keeps`() = cases("context_window.json", { it["unit"].text() == "tokens" }) { case ->
        val start = case.find("start_token")?.int()
        val begins = case["ids"].list().first().int() == start
        val size = if (begins) maxOf(1, case["window"].int() - 1) else case["window"].int()
        val windowed = ContextWindow(WindowUnit.TOKENS, size).fit(tokens(case["ids"].ids().drop(if (begins) 1 else 0)), longEngine)
        val stays = begins && case["kept"].ids().first() == start
        assertEquals(tokens(case["kept"].ids().drop(if (stays) 1 else 0)), windowed.text)
        checkLeftOut(case["left_out"].int() - if (begins && !stays) 1 else 0, windowed)
    }

    private val longEngine = FakeEngine(contextLength = 1_000_000) { _, _ -> emptyList() }

    private fun checkLeftOut(expected: Int, windowed: WindowedText) {
        assertEquals(expected, windowed.total - windowed.kept)
        assertEquals(expected > 0, windowed.trimmed != null)
    }

    private fun cases(name: String, kind: (Json) -> Boolean = { true }, check: (Json) -> Unit): List<DynamicTest> {
        val file = File(System.getProperty("llm_tflite.android_app"), "vectors/$name")
        val cases = Json.parse(file.readText())["cases"].list().filter(kind)
        assertTrue(cases.isNotEmpty(), "$file has no cases")
        return cases.map { case -> DynamicTest.dynamicTest(case["name"].text()) { check(case) } }
    }

    private fun Json.texts() = list().map { it.text() }

    private fun Json.ids() = list().map { it.int() }

    private fun tokens(ids: List<Int>) = ids.joinToString("") { String(Character.toChars('A'.code + it)) }

    private fun bytesOf(hex: String) = hex.chunked(2).map { it.toInt(16).toByte() }.toByteArray()
}
