package io.github.llmtflite.core

import kotlinx.coroutines.flow.Flow

/** A model that is open and continues texts, one at a time; it may be called from any thread. */
interface TextEngine : AutoCloseable {
    val info: ModelInfo

    /**
     * Continues a text.
     *
     * The flow is cold: each collection runs the model anew, on the collector's thread (choose it by
     * `flowOn`). Cancelling the collector stops the model after the token that it is at; a text of
     * the `generate` layout is made by one call, which ends first. Two collections take turns.
     *
     * @param prompt the text; the model's start token, if it has one, comes before it.
     * @throws ModelError.TextTooLong the text has more tokens than the context.
     * @throws ModelError.UnsuitableText it is empty, or has half a surrogate pair.
     * @throws ModelError.InvalidParameter the model cannot choose tokens as asked.
     */
    fun stream(prompt: String, parameters: Parameters): Flow<Piece>

    /** How many tokens the model reads of [text], a start token not among them. */
    fun countTokens(text: String): Int

    /** The end of [text], of at most [n] tokens and whole characters; all of it if it has no more. */
    fun lastTokens(text: String, n: Int): String

    /** Frees the model, after the run that may be in progress; closing again does nothing. */
    override fun close()
}

/**
 * How to continue a text.
 *
 * @property maxNewTokens at most this many; a stop token is not among them.
 * @property temperature divides the logits; 0 takes the best token and ignores what follows.
 * @property topK keeps the best tokens; 0 keeps all.
 * @property topP keeps the smallest set of best tokens whose probabilities reach it, above 0 to 1.
 * @property seed the same seed, text and file give the same tokens, here and in Python; null draws one.
 */
data class Parameters(
    val maxNewTokens: Int = 64,
    val temperature: Float = 0f,
    val topK: Int = 0,
    val topP: Float = 1f,
    val seed: Long? = null,
)

/**
 * One step of an answer.
 *
 * @property text what became certain, in whole characters; often "".
 * @property tokens how many new tokens it took: 1, or 0 at the end.
 * @property finish why the answer ended; null until the last piece.
 * @property ids the new tokens.
 */
data class Piece(
    val text: String,
    val tokens: Int,
    val finish: FinishReason? = null,
    val ids: List<Int> = emptyList(),
)

enum class FinishReason {
    /** The model wrote a stop token. */
    STOP,

    /** [Parameters.maxNewTokens] are there. */
    LENGTH,

    /** The context is full. */
    CONTEXT,
}

/**
 * What a file says of its model.
 *
 * @property name the Keras class.
 * @property layout `prefill_decode` or `generate`.
 * @property quantizer the strategy that stored the weights.
 * @property parameters how many numbers were trained.
 * @property contextLength tokens of a text, prompt and answer together, at most.
 * @property sizeBytes of the file.
 * @property fixedChoice how the file chooses tokens where the caller has no say (`generate`), else null.
 */
data class ModelInfo(
    val name: String,
    val layout: String,
    val quantizer: String,
    val parameters: Long,
    val contextLength: Int,
    val sizeBytes: Long,
    val fixedChoice: TokenChoice? = null,
)

/** Temperature and top-k as in [Parameters]. */
data class TokenChoice(val temperature: Float, val topK: Int)
