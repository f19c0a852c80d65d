package io.github.llmtflite.jvm

import com.sun.jna.Function
import com.sun.jna.Pointer
import io.github.llmtflite.core.MissingOperations
import io.github.llmtflite.core.ModelError

/** Keeps what the runtime says is wrong, for the message of an error. */
internal class ErrorLog : TfLite.ErrorReporter {
    private val lines = ArrayList<String>()

    override fun report(userData: Pointer?, format: Pointer, arguments: Pointer) {
        val text = ByteArray(MAX_LINE)
        print.invokeInt(arrayOf(text, text.size.toLong(), format, arguments))
        synchronized(lines) { lines += text.takeWhile { it != 0.toByte() }.toByteArray().toString(Charsets.UTF_8).trim() }
    }

    /** The error that the lines since the last one tell of. */
    fun error(what: String): ModelError {
        val told = synchronized(lines) { lines.toList().also { lines.clear() } }
        val missing = MissingOperations.toldIn(told.joinToString("\n"))
        if (missing.isNotEmpty()) return MissingOperations.error(missing)
        return ModelError.RuntimeFailure("$what: ${told.joinToString(" ").ifEmpty { "the runtime did not say why" }}")
    }

    private companion object {
        const val MAX_LINE = 1024
        val print: Function = Function.getFunction("c", "vsnprintf")
    }
}
