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

    // The app's text has no start token in it; the engine adds that.
    @TestFactory
    fun `a window keeps what Python's keeps`() = cases("context_window.json", { it.find("start_token") == null }) { case ->
        val engine = FakeEngine(contextLength = 1_000_000) { _, _ -> emptyList() }
        val isWords = case["unit"].text() == "words"
        val window = ContextWindow(if (isWords) WindowUnit.WORDS else WindowUnit.TOKENS, case["window"].int())
        val windowed = window.fit(if (isWords) case["text"].text() else case["ids"].tokens(), engine)
        assertEquals(if (isWords) case["kept"].text() else case["kept"].tokens(), windowed.text)
        assertEquals(case["left_out"].int(), windowed.total - windowed.kept)
        assertEquals(case["left_out"].int() > 0, windowed.trimmed != null)
    }

    private fun cases(name: String, isOurs: (Json) -> Boolean = { true }, check: (Json) -> Unit): List<DynamicTest> {
        val file = File(System.getProperty("llm_tflite.android_app"), "vectors/$name")
        val cases = Json.parse(file.readText())["cases"].list().filter(isOurs)
        assertTrue(cases.isNotEmpty(), "$file has no cases")
        return cases.map { case -> DynamicTest.dynamicTest(case["name"].text()) { check(case) } }
    }

    private fun Json.texts() = list().map { it.text() }

    private fun Json.tokens() = list().joinToString("") { String(Character.toChars('A'.code + it.int())) }

    private fun bytesOf(hex: String) = hex.chunked(2).map { it.toInt(16).toByte() }.toByteArray()
}
