package io.github.llmtflite.jvm

import io.github.llmtflite.core.Piece
import io.github.llmtflite.core.TextEngine
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterAll
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicContainer
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

/** Every answer that Python gave, token by token, on the real runtime. */
class GoldenAnswersTest {
    @TestFactory
    fun `answers are Python's`(): List<DynamicContainer> = Golden.models.map { model ->
        val tests = model.cases.map { case ->
            DynamicTest.dynamicTest("${case.parameters} ${case.prompt.take(20).filter { it in ' '..'~' }}") {
                val pieces = answer(engine(model.file), case)
                assertEquals(case.ids, pieces.flatMap(Piece::ids))
                assertEquals(case.text, pieces.joinToString("") { it.text })
                assertEquals(case.finish, pieces.last().finish?.name?.lowercase())
                assertEquals(case.ids.size, pieces.sumOf { it.tokens })
                assertEquals(case.promptTokens, engine(model.file).countTokens(case.prompt))
            }
        }
        DynamicContainer.dynamicContainer(model.file, tests)
    }

    @Test
    fun `the last tokens of a text are its end and no more than were asked for`() {
        for (model in Golden.models) {
            val engine = engine(model.file)
            for (prompt in model.cases.map(GoldenCase::prompt).distinct()) {
                for (count in listOf(0, 1, 3, 10, 1000)) {
                    val end = engine.lastTokens(prompt, count)
                    assertTrue(prompt.endsWith(end))
                    assertTrue(engine.countTokens(end) <= count)
                }
            }
        }
    }

    private fun answer(engine: TextEngine, case: GoldenCase): List<Piece> =
        runBlocking { engine.stream(case.prompt, case.parameters).toList() }

    private companion object {
        private var open: Pair<String, TextEngine>? = null

        /** The engine of a file; one is open at a time. */
        fun engine(file: String): TextEngine {
            open?.let { (name, engine) -> if (name == file) return engine else engine.close() }
            return Golden.open(file).also { open = file to it }
        }

        @AfterAll
        @JvmStatic
        fun close() {
            open?.second?.close()
            assertEquals(0, NativeHandles.live)
        }
    }
}
