package io.github.llmtflite.core

import kotlinx.coroutines.flow.FlowCollector

/** Where the tokens of an answer come from. */
internal interface TokenWriter {
    /** Whether no further token can come. */
    val full: Boolean

    /** Begins anew, reads a prompt and gives the first token. */
    suspend fun read(prompt: List<Int>): Int

    /** Reads [token] and gives the next one. */
    suspend fun write(token: Int): Int
}

/** One answer as it comes into being: the loop from prompt to stop, one piece per token, then one that ends it. */
internal class Answer(
    private val tokenizer: Tokenizer,
    private val stopTokens: Set<Int>,
    private val maxNewTokens: Int,
    private val writer: TokenWriter,
) {
    private val assembler = Utf8Assembler()
    private var count = 0

    suspend fun emitTo(collector: FlowCollector<Piece>, prompt: List<Int>) {
        var token: Int? = null
        var reason = limit()
        while (reason == null) {
            token = if (token == null) writer.read(prompt) else writer.write(token)
            if (token in stopTokens) {
                reason = FinishReason.STOP
            } else {
                count++
                collector.emit(Piece(assembler.push(tokenizer.tokenBytes(token)), 1, ids = listOf(token)))
                reason = limit()
            }
        }
        collector.emit(Piece(assembler.finish(), 0, reason))
    }

    private fun limit(): FinishReason? = when {
        count >= maxNewTokens -> FinishReason.LENGTH
        writer.full -> FinishReason.CONTEXT
        else -> null
    }
}
