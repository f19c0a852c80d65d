package io.github.llmtflite.jvm

import io.github.llmtflite.core.ModelError
import io.github.llmtflite.core.ModelFile
import io.github.llmtflite.core.Parameters
import io.github.llmtflite.core.openEngine
import kotlinx.coroutines.runBlocking
import java.io.IOException
import java.io.PrintStream
import java.nio.file.Path
import kotlin.system.exitProcess

private const val USAGE = """usage: FILE PROMPT [OPTION VALUE]...

Streams the continuation of PROMPT by the model in FILE, a .tflite or .litertlm file of llm_tflite.

  --max-new-tokens N   at most this many (64)
  --temperature T      0 takes the best token, always (0, or the file's own)
  --top-k K            draw from the K best tokens; 0 is all (0, or the file's own)
  --top-p P            draw from the best tokens that reach this probability (1)
  --seed S             the same seed gives the same answer
  --threads N          for one run of the model (2)"""

/** What the command line asks for; null where the file decides. */
internal data class Request(
    val file: Path,
    val prompt: String,
    val maxNewTokens: Int,
    val temperature: Float?,
    val topK: Int?,
    val topP: Float,
    val seed: Long?,
    val threads: Int,
) {
    companion object {
        private val OPTIONS = setOf("max-new-tokens", "temperature", "top-k", "top-p", "seed", "threads")

        /** @throws IllegalArgumentException the arguments are not as the usage says. */
        fun parse(arguments: List<String>): Request {
            require(arguments.size >= 2 && arguments.size % 2 == 0) { USAGE }
            val values = HashMap<String, String>()
            for ((option, value) in arguments.drop(2).chunked(2)) {
                val name = option.removePrefix("--")
                require(option.startsWith("--") && name in OPTIONS) { "There is no option $option.\n$USAGE" }
                values[name] = value
            }
            fun <T> value(name: String, read: (String) -> T?): T? = values[name]?.let {
                requireNotNull(read(it)) { "--$name cannot be \"$it\".\n$USAGE" }
            }
            return Request(
                Path.of(arguments[0]),
                arguments[1],
                value("max-new-tokens", String::toIntOrNull) ?: 64,
                value("temperature", String::toFloatOrNull),
                value("top-k", String::toIntOrNull),
                value("top-p", String::toFloatOrNull) ?: 1f,
                value("seed", String::toLongOrNull),
                value("threads", String::toIntOrNull) ?: 2,
            )
        }
    }

    /** Streams the answer to [output] and says to [notes] how long it took. */
    fun answer(output: PrintStream, notes: PrintStream) {
        val file = ModelFile.open(file)
        val info = file.info
        file.openEngine(JnaRuntime(), threads).use { engine ->
            val parameters = Parameters(
                maxNewTokens,
                temperature ?: info.fixedChoice?.temperature ?: 0f,
                topK ?: info.fixedChoice?.topK ?: 0,
                topP,
                seed,
            )
            val began = System.nanoTime()
            var first = 0L
            var tokens = 0
            output.print(prompt)
            runBlocking {
                engine.stream(prompt, parameters).collect { piece ->
                    if (tokens == 0) first = System.nanoTime()
                    tokens += piece.tokens
                    output.print(piece.text)
                    output.flush()
                }
            }
            output.println()
            val prefill = (first - began) / 1e9
            val decode = (System.nanoTime() - first) / 1e9
            notes.println(
                "%s, %s, %s: first of %d tokens after %.2f s, then %.1f tokens/s".format(
                    info.name, info.layout, info.quantizer, tokens, prefill, maxOf(0, tokens - 1) / decode,
                ),
            )
        }
    }
}

fun main(arguments: Array<String>) {
    try {
        Request.parse(arguments.toList()).answer(PrintStream(System.out, true, Charsets.UTF_8), System.err)
    } catch (e: IllegalArgumentException) {
        fail(e.message)
    } catch (e: ModelError) {
        fail(e.message)
    } catch (e: IOException) {
        fail("The file cannot be read: $e")
    }
}

private fun fail(message: String?): Nothing {
    System.err.println(message)
    exitProcess(2)
}
