package io.github.llmtflite.core

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import kotlinx.coroutines.flow.transformWhile

/** One step of an answer that went through the filter. */
sealed interface AnswerStep {
    /** Text that is decided, often "". */
    data class Text(val text: String, val speed: Speed) : AnswerStep

    data class End(val finish: FinishReason) : AnswerStep

    /** The model wrote a listed word; it is told nothing more. */
    data object Refused : AnswerStep
}

/**
 * Continues [prompt], which ends [text], and lets no listed word through, not even one that begins in the text.
 *
 * @param text the whole text that the user sees; a window may have cut its first word.
 */
internal fun filteredAnswer(
    engine: TextEngine,
    text: String,
    prompt: String,
    parameters: Parameters,
    filter: ProfanityFilter,
    nanoTime: () -> Long,
): Flow<AnswerStep> = flow {
    val gate = StreamGate(filter, text)
    val clock = SpeedClock(nanoTime)
    val steps = engine.stream(prompt, parameters).transformWhile { piece ->
        val speed = clock.count(piece.tokens)
        val decided = gate.push(piece.text) + if (piece.finish != null) gate.finish() else ""
        emit(AnswerStep.Text(decided, speed))
        piece.finish?.let { if (gate.match == null) emit(AnswerStep.End(it)) }
        if (gate.match != null) emit(AnswerStep.Refused)
        gate.match == null && piece.finish == null
    }
    steps.collect(::emit)
}

/** Tokens per second from the first token on; the time before it is the prompt's. */
internal class SpeedClock(private val nanoTime: () -> Long) {
    private var tokens = 0
    private var first = 0L

    fun count(more: Int): Speed {
        val now = nanoTime()
        if (tokens == 0) first = now
        tokens += more
        val seconds = (now - first) / 1e9f
        return Speed(tokens, if (tokens > 1 && seconds > 0) (tokens - 1) / seconds else null)
    }
}
