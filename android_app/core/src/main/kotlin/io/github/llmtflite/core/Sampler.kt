package io.github.llmtflite.core

import kotlin.math.exp
import kotlin.random.Random

/**
 * Chooses the tokens of one answer: greedy, or drawn with a seed; as `llm_tflite/sampling.py`.
 *
 * @throws ModelError.InvalidParameter a value that no choice of tokens could honour.
 */
internal class Sampler(private val parameters: Parameters) {
    private val random: Pcg64
    private val scale: Float
    private val topP: Double

    init {
        parameters.check()
        random = Pcg64(parameters.seed ?: Random.nextLong(Long.MAX_VALUE))
        // By way of their digits: 0.8f is not the number that Python calls 0.8.
        val temperature = parameters.temperature.toString().toDouble()
        scale = minOf(1 / temperature, MAX_SCALE).toFloat()
        topP = parameters.topP.toString().toDouble()
    }

    /**
     * The next token.
     *
     * @throws ModelError.RuntimeFailure the best logit is not finite, so there is no choice.
     */
    fun pick(logits: FloatArray): Int {
        val best = best(logits)
        if (!logits[best].isFinite()) {
            throw ModelError.RuntimeFailure("The model's scores are not finite, so no token can be chosen.")
        }
        return if (parameters.temperature == 0f) best else draw(logits, logits[best])
    }

    private fun best(logits: FloatArray): Int {
        var best = 0
        for (i in logits.indices) {
            if (logits[i].isNaN()) return i
            if (logits[i] > logits[best]) best = i
        }
        return best
    }

    private fun draw(logits: FloatArray, best: Float): Int {
        val tokens = if (parameters.topK > 0) top(logits, parameters.topK) else null
        val weights = FloatArray(tokens?.size ?: logits.size) {
            exp(((logits[tokens?.get(it) ?: it] - best) * scale).toDouble()).toFloat()
        }
        if (topP < 1) keepTop(weights)
        val shares = DoubleArray(weights.size)
        var sum = 0.0
        for (i in weights.indices) {
            sum += weights[i]
            shares[i] = sum
        }
        val drawn = random.nextDouble()
        // The last share is exactly 1, and what is drawn is below.
        var low = 0
        var high = shares.size - 1
        while (low < high) {
            val middle = (low + high) ushr 1
            if (shares[middle] / sum <= drawn) low = middle + 1 else high = middle
        }
        return tokens?.get(low) ?: low
    }

    /** Makes the weights zero that are not in the smallest set of best ones whose sum reaches top-p. */
    private fun keepTop(weights: FloatArray) {
        val sorted = weights.sortedArrayDescending()
        val reached = DoubleArray(sorted.size)
        var sum = 0.0
        for (i in sorted.indices) {
            sum += sorted[i]
            reached[i] = sum
        }
        val count = reached.indexOfFirst { it >= topP * sum } + 1
        val kept = chosen(weights, count)
        for (i in weights.indices) if (!kept[i]) weights[i] = 0f
    }

    private companion object {
        // It keeps a tiny temperature from making NaN of the best score, zero times infinity.
        const val MAX_SCALE = 1e30

        /** The [count] best tokens, best first; equals in the order of their ids. */
        fun top(logits: FloatArray, count: Int): IntArray {
            val kept = chosen(logits, count)
            return logits.indices.filter { kept[it] }.sortedByDescending { logits[it] }.toIntArray()
        }

        /** Marks the [count] largest values; of equals, those that come first. */
        fun chosen(values: FloatArray, count: Int): BooleanArray {
            if (count >= values.size) return BooleanArray(values.size) { true }
            val threshold = values.sortedArray()[values.size - count]
            var equals = count - values.count { it > threshold }
            return BooleanArray(values.size) { values[it] > threshold || (values[it] == threshold && equals-- > 0) }
        }
    }
}

/** Refuses what no answer could honour. */
internal fun Parameters.check() {
    fun require(holds: Boolean, message: String) {
        if (!holds) throw ModelError.InvalidParameter(message)
    }
    require(maxNewTokens >= 0, "The number of new tokens must be 0 or more; it is $maxNewTokens.")
    require(temperature >= 0 && temperature.isFinite(), "The temperature must be 0 or more; it is $temperature.")
    require(topK >= 0, "Top-k must be 0, for all, or more; it is $topK.")
    require(topP > 0 && topP <= 1, "Top-p must be above 0 and at most 1; it is $topP.")
    require((seed ?: 0) >= 0, "A seed must be 0 or more; it is $seed.")
}
