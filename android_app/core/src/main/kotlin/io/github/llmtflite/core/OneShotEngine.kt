package io.github.llmtflite.core

import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow
import java.nio.ByteBuffer
import kotlin.random.Random

/** Runs a model of the `generate` layout: one call takes text and gives the whole answer. */
internal class OneShotEngine(private val model: OpenModel) : TextEngine {
    override val info: ModelInfo = model.file.info

    private val facts = model.manifest.text
        ?: throw ModelError.UnsupportedModel("The file does not say what its text is. Convert the model again.")
    private val samples = facts.topK != 1
    private val maxLength = model.manifest.model.contextLength

    init {
        if (facts.form != "bytes") {
            throw ModelError.UnsupportedModel(
                "The file takes text as a tensor of strings, which needs TensorFlow's own operations. Convert the " +
                    "model with text=\"bytes\".",
            )
        }
        val signature = model.use { it.signatures[SERVING] }
            ?: throw ModelError.UnsupportedModel("The model lacks the signature \"$SERVING\".")
        val inputs = setOf(PROMPT) + if (samples) setOf(NOISE) else emptySet()
        if (signature.inputs.keys != inputs || !signature.outputs.keys.containsAll(OUTPUTS)) {
            throw ModelError.UnsupportedModel(
                "The inputs $inputs and the outputs $OUTPUTS were expected; the model has ${signature.inputs.keys} " +
                    "and ${signature.outputs.keys}. Convert it again.",
            )
        }
    }

    override fun stream(prompt: String, parameters: Parameters): Flow<Piece> = flow {
        parameters.check()
        checkChoice(parameters)
        val ids = model.prompt(prompt)
        model.inTurn {
            val writer = FinishedAnswer(prompt, ids.size, parameters.seed)
            Answer(model.tokenizer, model.manifest.stopTokens, parameters.maxNewTokens, writer).emitTo(this, ids)
        }
    }

    override fun countTokens(text: String): Int = model.tokenizer.encode(text).size

    override fun lastTokens(text: String, n: Int): String = model.lastTokens(text, n)

    override fun close() = model.close()

    private fun checkChoice(parameters: Parameters) {
        val own = checkNotNull(info.fixedChoice)
        val asked = TokenChoice(parameters.temperature, parameters.topK)
        val greedy = parameters.temperature == 0f || parameters.topK == 1
        if (if (samples) asked != own || parameters.topP != 1f else !greedy) {
            throw ModelError.InvalidParameter(
                "The file chooses tokens with temperature ${own.temperature} and top-k ${own.topK}; it cannot with " +
                    "${asked.temperature}, ${asked.topK} and top-p ${parameters.topP}. Convert the model with those, or " +
                    "with the layout \"prefill_decode\".",
            )
        }
    }

    /** Runs the model once; the tokens of the answer, the stop token included. */
    private fun run(text: String, prompt: List<Int>, seed: Long?): List<Int> = model.use { port ->
        val bytes = text.toByteArray()
        val input = port.buffer(bytes.size + 1) // it ends in one zero
        input.duplicate().put(bytes)
        val runner = port.runner(SERVING)
        runner.resize(PROMPT, listOf(input.capacity()))
        val inputs = hashMapOf(PROMPT to input)
        if (samples) inputs[NOISE] = noise(port, seed)
        runner.run(inputs, emptyMap())
        val tokens = runner.output(TOKENS).ints(runner.output(TOKEN_COUNT).getInt(0))
        val read = tokens.take(runner.output(PROMPT_COUNT).getInt(0))
        if (read != prompt) {
            throw ModelError.UnsuitableText(
                "The model reads the text as other tokens than its tokenizer does, perhaps because it holds the name of a " +
                    "control token. Change the text, or convert the model with the layout \"prefill_decode\".",
            )
        }
        tokens.drop(read.size)
    }

    private fun noise(port: SignaturePort, seed: Long?): ByteBuffer {
        val random = Pcg64(seed ?: Random.nextLong(Long.MAX_VALUE))
        val buffer = port.buffer(maxLength * TensorType.FLOAT32.bytes)
        for (i in 0 until maxLength) buffer.putFloat(4 * i, random.nextFloat())
        return buffer
    }

    /** Tokens that are all there once the prompt was read. */
    private inner class FinishedAnswer(
        private val text: String,
        private val promptTokens: Int,
        private val seed: Long?,
    ) : TokenWriter {
        private val left = ArrayDeque<Int>()
        private var begun = false

        // A prompt that fills the file leaves no answer.
        override val full: Boolean get() = if (begun) left.isEmpty() else promptTokens >= maxLength

        override suspend fun read(prompt: List<Int>): Int {
            currentCoroutineContext().ensureActive()
            begun = true
            left += run(text, prompt, seed)
            return next()
        }

        override suspend fun write(token: Int): Int = next()

        private fun next(): Int =
            left.removeFirstOrNull() ?: throw ModelError.RuntimeFailure("The model read the text and wrote nothing.")
    }

    private companion object {
        const val SERVING = "serving_default"
        const val PROMPT = "prompt"
        const val NOISE = "noise"
        const val TOKENS = "tokens"
        const val TOKEN_COUNT = "token_count"
        const val PROMPT_COUNT = "prompt_count"
        val OUTPUTS = listOf("text", TOKENS, TOKEN_COUNT, PROMPT_COUNT)
    }
}

private fun ByteBuffer.ints(count: Int): List<Int> = List(count) { getInt(4 * it) }
