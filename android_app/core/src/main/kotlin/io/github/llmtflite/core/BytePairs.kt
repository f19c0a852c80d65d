package io.github.llmtflite.core

import java.util.PriorityQueue

/** Merges the pieces of a word: the pair that comes first in the list first, of equals the leftmost. */
internal class BytePairs(private val merges: Map<Long, Merge>) {
    /** Where a pair stands in the list of merges, and the token that it becomes. */
    class Merge(val rank: Int, val token: Int)

    private class Candidate(val rank: Int, val left: Int, val leftToken: Int, val rightToken: Int)

    fun merge(tokens: IntArray): List<Int> {
        val count = tokens.size
        val next = IntArray(count) { if (it + 1 < count) it + 1 else END }
        val previous = IntArray(count) { it - 1 }
        val queue = PriorityQueue<Candidate>(compareBy({ it.rank }, { it.left }))
        fun offer(left: Int) {
            if (left < 0 || next[left] == END) return
            val right = next[left]
            val merge = merges[pair(tokens[left], tokens[right])] ?: return
            queue += Candidate(merge.rank, left, tokens[left], tokens[right])
        }
        for (left in 0 until count - 1) offer(left)
        while (true) {
            val candidate = queue.poll() ?: break
            val left = candidate.left
            // A merge since then may have changed either side.
            if (tokens[left] != candidate.leftToken || next[left] == END) continue
            val right = next[left]
            if (tokens[right] != candidate.rightToken) continue
            tokens[left] = merges.getValue(pair(tokens[left], tokens[right])).token
            tokens[right] = GONE
            next[left] = next[right]
            if (next[left] != END) previous[next[left]] = left
            offer(previous[left])
            offer(left)
        }
        return tokens.filter { it != GONE }
    }

    companion object {
        private const val END = -1
        private const val GONE = -1

        fun pair(left: Int, right: Int): Long = (left.toLong() shl 32) or right.toLong()
    }
}
