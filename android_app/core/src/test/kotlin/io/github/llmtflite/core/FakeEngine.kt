package io.github.llmtflite.core

import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/** An engine whose tokens are characters; [answer] writes what follows a prompt, one piece for each item. */
class FakeEngine(
    contextLength: Int = 64,
    fixedChoice: TokenChoice? = null,
    private val finish: FinishReason = FinishReason.STOP,
    private val answer: suspend (prompt: String, parameters: Parameters) -> List<String>,
) : TextEngine {
    val prompts = ArrayList<String>()
    val asked = ArrayList<Parameters>()
    var closed = 0
        private set

    override val info = ModelInfo("Fake", "prefill_decode", "none", 1, contextLength, 1, fixedChoice)

    override fun stream(prompt: String, parameters: Parameters): Flow<Piece> = flow {
        prompts.add(prompt)
        asked.add(parameters)
        answer(prompt, parameters).forEach { emit(Piece(it, 1)) }
        emit(Piece("", 0, finish))
    }

    override fun countTokens(text: String): Int = text.codePointCount(0, text.length)

    override fun lastTokens(text: String, n: Int): String =
        if (countTokens(text) <= n) text else text.substring(text.offsetByCodePoints(text.length, -n))

    override fun close() {
        closed++
    }
}
