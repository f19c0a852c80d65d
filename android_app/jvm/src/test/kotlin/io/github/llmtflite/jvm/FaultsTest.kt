package io.github.llmtflite.jvm

import io.github.llmtflite.core.FinishReason
import io.github.llmtflite.core.ModelError
import io.github.llmtflite.core.ModelFile
import io.github.llmtflite.core.Parameters
import io.github.llmtflite.core.Piece
import io.github.llmtflite.core.TextEngine
import io.github.llmtflite.core.openEngine
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.async
import kotlinx.coroutines.awaitAll
import kotlinx.coroutines.cancelAndJoin
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.take
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.launch
import kotlinx.coroutines.runBlocking
import org.junit.jupiter.api.AfterEach
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** What goes wrong ends in a sentence, and leaves nothing open in the native library. */
class FaultsTest {
    @AfterEach
    fun `no native handle is left`() = assertEquals(0, NativeHandles.live)

    @Test
    fun `a model with an operation that nobody knows is refused by its name`() {
        val file = ModelFile.open(Golden.path("unknown_operation.tflite"))
        val error = assertThrows(ModelError::class.java) { file.openEngine(JnaRuntime(), 1) }
        assertTrue(error is ModelError.UnsupportedOperation, error.message)
        check(error is ModelError.UnsupportedOperation)
        assertEquals(listOf("UnheardOf"), error.operations)
        assertTrue("UnheardOf" in error.message, error.message)
    }

    @Test
    fun `bytes that are no model are refused by the runtime`() {
        val bytes = ByteBuffer.allocateDirect(1000).order(ByteOrder.nativeOrder())
        assertThrows(ModelError.RuntimeFailure::class.java) { JnaRuntime().open(bytes, 1) }
    }

    @Test
    fun `a text that is too long is refused with both numbers`() = using("gpt2.tflite") { engine ->
        val error = failure<ModelError.TextTooLong>(engine, "x".repeat(64)) // behind the start token
        assertEquals(65 to 64, error.tokens to error.limit)
        assertTrue("65" in error.message && "64" in error.message, error.message)
    }

    @Test
    fun `a text that fills the context leaves room for one token`() = using("gpt2.tflite") { engine ->
        val pieces = answer(engine, "x".repeat(63), Parameters(maxNewTokens = 5))
        assertEquals(FinishReason.CONTEXT, pieces.last().finish)
        assertEquals(1, pieces.sumOf(Piece::tokens))
    }

    @Test
    fun `a text that fills a generate file leaves no answer`() = using("gpt2_generate.tflite") { engine ->
        val pieces = answer(engine, "x".repeat(63), Parameters(maxNewTokens = 5))
        assertEquals(listOf(Piece("", 0, FinishReason.CONTEXT)), pieces)
    }

    @Test
    fun `no new tokens is an answer too`() = using("llama.litertlm") { engine ->
        assertEquals(listOf(Piece("", 0, FinishReason.LENGTH)), answer(engine, "The", Parameters(maxNewTokens = 0)))
    }

    @Test
    fun `half a surrogate pair is refused`() = using("llama.litertlm") { engine ->
        failure<ModelError.UnsuitableText>(engine, "a\uD800")
    }

    @Test
    fun `impossible parameters are refused before the model runs`() = using("llama.litertlm") { engine ->
        failure<ModelError.InvalidParameter>(engine, "The", Parameters(temperature = -1f))
    }

    @Test
    fun `a generate file refuses another way of choosing tokens`() = using("gpt2_sampled.tflite") { engine ->
        val error = failure<ModelError.InvalidParameter>(engine, "The", Parameters(temperature = 0.9f, topK = 5))
        assertTrue("0.7" in error.message && "0.9" in error.message, error.message)
    }

    @Test
    fun `the name of a control token is refused where the file would take it for the token`() {
        using("gpt2.tflite") { answer(it, "<|endoftext|>", Parameters(maxNewTokens = 3)) }
        using("gpt2_generate.tflite") { failure<ModelError.UnsuitableText>(it, "<|endoftext|>") }
    }

    @Test
    fun `a closed engine says so`() = using("gpt2.tflite") { engine ->
        engine.close()
        engine.close()
        failure<ModelError.Closed>(engine, "The")
    }

    @Test
    fun `closing in the middle of an answer ends it`() = using("llama.litertlm") { engine ->
        assertThrows(ModelError.Closed::class.java) {
            runBlocking { engine.stream("The", Parameters(maxNewTokens = 500)).collect { engine.close() } }
        }
    }

    @Test
    fun `a stream that is cancelled in the middle stops, and the next answer is right`() = using("llama.litertlm") { engine ->
        val parameters = Parameters(maxNewTokens = 900, temperature = 1f, seed = 4)
        val whole = answer(engine, "The river", parameters.copy(maxNewTokens = 20))
        runBlocking {
            var seen = 0
            val job = launch(Dispatchers.Default) { engine.stream("The river", parameters).collect { seen++ } }
            while (seen < 3) delay(1)
            job.cancelAndJoin()
            assertTrue(seen < 900)
            assertEquals(5, engine.stream("The river", parameters).take(5).toList().size)
        }
        assertEquals(whole, answer(engine, "The river", parameters.copy(maxNewTokens = 20)))
    }

    @Test
    fun `a hundred rapid pairs of generate and stop`() = using("llama.litertlm") { engine ->
        val parameters = Parameters(maxNewTokens = 500)
        val expected = answer(engine, "The cat", parameters.copy(maxNewTokens = 8))
        runBlocking {
            repeat(100) { round ->
                val job = launch(Dispatchers.Default) { engine.stream("The cat", parameters).collect {} }
                delay(round % 5L)
                job.cancelAndJoin()
            }
        }
        assertEquals(expected, answer(engine, "The cat", parameters.copy(maxNewTokens = 8)))
    }

    @Test
    fun `a hundred models opened and closed leave nothing open`() {
        val file = ModelFile.open(Golden.path("gpt2.tflite"))
        repeat(100) { round ->
            file.openEngine(JnaRuntime(), 1).use { engine ->
                assertTrue(NativeHandles.live > 0)
                if (round % 10 == 0) answer(engine, "The", Parameters(maxNewTokens = 2))
            }
            assertEquals(0, NativeHandles.live)
        }
    }

    @Test
    fun `answers that are asked for at once take turns and are right`() = using("llama.litertlm") { engine ->
        val prompts = List(8) { "Text number $it" }
        val parameters = Parameters(maxNewTokens = 12, temperature = 0.9f, seed = 2)
        val alone = prompts.map { answer(engine, it, parameters) }
        val together = runBlocking {
            prompts.map { async { engine.stream(it, parameters).flowOn(Dispatchers.Default).toList() } }.awaitAll()
        }
        assertEquals(alone, together)
    }

    @Test
    fun `a buffer of the wrong size is refused`() {
        val model = ModelFile.open(Golden.path("gpt2.tflite")).model
        JnaRuntime().open(model, 1).use { port ->
            val runner = port.runner("decode")
            val inputs = port.signatures.getValue("decode").inputs.keys.associateWith { port.buffer(12) }
            assertThrows(ModelError.RuntimeFailure::class.java) { runner.run(inputs, emptyMap()) }
            assertThrows(ModelError.RuntimeFailure::class.java) { runner.run(emptyMap(), emptyMap()) }
            assertThrows(ModelError.RuntimeFailure::class.java) { port.runner("unheard_of") }
        }
    }

    private fun using(name: String, test: (TextEngine) -> Unit) = Golden.open(name, threads = 2).use(test)

    private fun answer(engine: TextEngine, prompt: String, parameters: Parameters = Parameters()): List<Piece> =
        runBlocking { engine.stream(prompt, parameters).toList() }

    private inline fun <reified E : ModelError> failure(
        engine: TextEngine,
        prompt: String,
        parameters: Parameters = Parameters(),
    ): E = assertThrows(E::class.java) { answer(engine, prompt, parameters) }
}
