package io.github.llmtflite.jvm

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource
import java.io.ByteArrayOutputStream
import java.io.PrintStream

class CommandLineTest {
    @Test
    fun `SmolLM2 knows the capital of France`() {
        val output = run(Golden.path("smollm2.litertlm").toString(), "The capital of France is", "--max-new-tokens", "12")
        assertTrue(output.startsWith("The capital of France is"), output)
        assertTrue("Paris" in output, output)
    }

    @Test
    fun `so it does in one call`() {
        val output = run(Golden.path("smollm2_generate.tflite").toString(), "The capital of France is")
        assertTrue("Paris" in output, output)
    }

    @Test
    fun `a seed gives the same answer`() {
        val arguments = arrayOf(
            Golden.path("gpt2.tflite").toString(), "The", "--temperature", "1.5", "--top-k", "20", "--top-p", "0.9",
            "--seed", "5", "--threads", "1",
        )
        assertEquals(run(*arguments), run(*arguments))
    }

    @ParameterizedTest
    @ValueSource(strings = ["", "model", "model|text|--seed", "model|text|--heat|1", "model|text|--seed|x", "model|text|seed|1"])
    fun `wrong arguments get the usage`(arguments: String) {
        val error = assertThrows(IllegalArgumentException::class.java) {
            Request.parse(if (arguments.isEmpty()) emptyList() else arguments.split('|'))
        }
        assertTrue("usage:" in error.message.orEmpty())
    }

    private fun run(vararg arguments: String): String {
        val output = ByteArrayOutputStream()
        PrintStream(output, true, Charsets.UTF_8).use {
            Request.parse(arguments.toList()).answer(it, PrintStream(ByteArrayOutputStream()))
        }
        assertEquals(0, NativeHandles.live)
        return output.toString(Charsets.UTF_8)
    }
}
