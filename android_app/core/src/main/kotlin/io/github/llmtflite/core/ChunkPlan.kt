package io.github.llmtflite.core

/** One call of a signature of [length] that carries [count] real tokens from [start]. */
internal data class ChunkStep(val start: Int, val count: Int, val length: Int)

/** Which prefill signatures to run for a prompt, so that it takes the least time; as `llm_tflite/chunk_plan.py`. */
internal object ChunkPlan {
    // A call costs about as much as this many tokens on top of its own: the weights are read once per call.
    private const val CALL_COST = 16

    /**
     * Covers [count] tokens with calls of the given lengths, from position 0.
     *
     * Only the last call may be padded. Pads are written behind the real tokens, where the next call overwrites
     * them; they must not pass [capacity], since the runtime clamps such a write onto the last slots without a word.
     *
     * @param count tokens to place, at most [capacity].
     * @param lengths of the signatures; 1 among them.
     * @param capacity slots of the cache.
     */
    fun chunks(count: Int, lengths: Collection<Int>, capacity: Int): List<ChunkStep> {
        val ladder = lengths.toSortedSet()
        val longest = ladder.last()
        // Far from the end the longest call is always best; only the tail needs a search.
        val whole = maxOf(0, count / longest - 1)
        var tail = count - whole * longest
        val slack = capacity - count
        val cost = IntArray(tail + 1)
        val choice = IntArray(tail + 1)
        for (left in 1..tail) {
            cost[left] = Int.MAX_VALUE
            for (length in ladder) {
                if (length > left + slack) break
                val total = CALL_COST + length + if (length <= left) cost[left - length] else 0
                // Of equals, the longer call.
                if (total <= cost[left]) {
                    cost[left] = total
                    choice[left] = length
                }
            }
        }
        val chosen = MutableList(whole) { longest }
        while (tail > 0) {
            chosen += choice[tail]
            tail -= choice[tail]
        }
        var start = 0
        return chosen.sortedDescending().map { length ->
            ChunkStep(start, minOf(length, count - start), length).also { start += length }
        }
    }

    /** Covers [count] tokens with one call, for a model whose prompt must not be cut. */
    fun whole(count: Int, lengths: Collection<Int>): List<ChunkStep> =
        if (count == 0) emptyList() else listOf(ChunkStep(0, count, lengths.filter { it >= count }.min()))
}
