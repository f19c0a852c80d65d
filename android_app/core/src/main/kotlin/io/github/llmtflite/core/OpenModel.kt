package io.github.llmtflite.core

import kotlinx.coroutines.sync.Mutex
import kotlinx.coroutines.sync.withLock
import java.util.concurrent.locks.ReentrantLock
import kotlin.concurrent.withLock

/** An open model with its tokenizer, and the rules of who may use it when: what both engines have in common. */
internal class OpenModel(val file: ModelFile, runtime: RuntimePort, threads: Int) : AutoCloseable {
    val manifest: Manifest = file.manifest
    val tokenizer: Tokenizer = run {
        val kind = manifest.tokenizerKind
        val bytes = file.tokenizerBytes()
        if (kind == null || bytes == null) {
            throw ModelError.UnsupportedModel(
                "The file has no tokenizer, so it cannot read text. Convert the model with its preprocessor.",
            )
        }
        Tokenizer.load(kind, bytes)
    }

    private val port = run {
        val custom = MissingOperations.customIn(file.model)
        if (custom.isNotEmpty()) throw MissingOperations.error(custom)
        runtime.open(file.model, threads)
    }
    private val turns = Mutex()
    private val running = ReentrantLock()
    private var closed = false

    /** The ids of a prompt, the start token included. */
    fun prompt(text: String): List<Int> {
        val ids = listOfNotNull(manifest.startToken) + tokenizer.encode(text)
        if (ids.isEmpty()) throw ModelError.UnsuitableText("The text is empty; at least one character was expected.")
        ids.firstOrNull { it >= manifest.model.vocabularySize }?.let {
            throw ModelError.UnsuitableText("The text has the token $it, which the model does not know.")
        }
        val limit = manifest.model.contextLength
        if (ids.size > limit) {
            throw ModelError.TextTooLong(
                ids.size,
                limit,
                "The text has ${ids.size} tokens and the model holds $limit. Shorten the text, or narrow the window of it that is used.",
            )
        }
        return ids
    }

    /** The end of a text, of at most [n] tokens. */
    fun lastTokens(text: String, n: Int): String {
        if (n <= 0) return ""
        val ids = tokenizer.encode(text)
        if (ids.size <= n) return text
        val bytes = text.toByteArray()
        val kept = ids.takeLast(n).sumOf { tokenizer.tokenBytes(it).size }
        var begin = maxOf(0, bytes.size - kept)
        while (begin < bytes.size && bytes[begin].toInt() and 0xC0 == 0x80) begin++
        var end = String(bytes, begin, bytes.size - begin, Charsets.UTF_8)
        // Cut elsewhere, the same characters may be more tokens.
        while (tokenizer.encode(end).size > n) end = end.substring(Character.charCount(end.codePointAt(0)))
        return end
    }

    /** Waits until no other answer is being written. */
    suspend fun <T> inTurn(write: suspend () -> T): T = turns.withLock { write() }

    /** Uses the model, which nobody closes meanwhile. */
    fun <T> use(run: (SignaturePort) -> T): T = running.withLock {
        if (closed) throw ModelError.Closed("The model was closed. Open it again.")
        run(port)
    }

    override fun close() = running.withLock {
        if (!closed) {
            closed = true
            port.close()
        }
    }
}

/**
 * Opens a model for writing text.
 *
 * @param runtime what runs it.
 * @param threads at most this many for one run.
 * @throws ModelError.UnsupportedModel the file's layout writes no text, or its model is not what the file says.
 * @throws ModelError.UnsupportedTokenizer its tokenizer is not supported.
 * @throws ModelError.UnsupportedOperation the runtime lacks an operation of the model.
 * @throws ModelError.RuntimeFailure the runtime refused the model.
 */
fun ModelFile.openEngine(runtime: RuntimePort, threads: Int): TextEngine {
    val engine: (OpenModel) -> TextEngine = when (manifest.layout) {
        "prefill_decode" -> ::KvCacheEngine
        "generate" -> ::OneShotEngine
        else -> throw ModelError.UnsupportedModel(
            "The file has the layout \"${manifest.layout}\", which does not write text. Convert the model with the " +
                "layout \"prefill_decode\" or \"generate\".",
        )
    }
    if (threads < 1) throw ModelError.InvalidParameter("At least one thread was expected; there are $threads.")
    val model = OpenModel(this, runtime, threads)
    try {
        return engine(model)
    } catch (e: Throwable) {
        model.close()
        throw e
    }
}
