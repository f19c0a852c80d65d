package io.github.llmtflite.core

import java.math.BigInteger

/**
 * The random numbers of `numpy.random.Generator(PCG64(seed))`, bit for bit.
 *
 * PCG XSL RR 128/64 (O'Neill 2014, https://www.pcg-random.org) seeded by NumPy's `SeedSequence`.
 *
 * @param seed 0 or more.
 */
internal class Pcg64(seed: Long) {
    private val increment: BigInteger
    private var state: BigInteger
    private var half: Int? = null

    init {
        val words = SeedSequence(seed).words64(4)
        increment = join(words[2], words[3]).shiftLeft(1).or(BigInteger.ONE).and(MASK)
        state = step(step(BigInteger.ZERO).add(join(words[0], words[1])))
    }

    /** A number inside [0, 1), as `random()`. */
    fun nextDouble(): Double = (next64() ushr 11) * (1.0 / (1L shl 53))

    /** A number inside [0, 1), as `random(dtype=float32)`; two of them take one step. */
    fun nextFloat(): Float = (next32() ushr 8) * (1.0f / (1 shl 24))

    private fun next32(): Int {
        half?.let {
            half = null
            return it
        }
        val next = next64()
        half = (next ushr 32).toInt()
        return next.toInt()
    }

    private fun next64(): Long {
        state = step(state)
        val high = state.shiftRight(64).toLong()
        return (high xor state.toLong()).rotateRight((high ushr 58).toInt())
    }

    private fun step(from: BigInteger): BigInteger = from.multiply(MULTIPLIER).add(increment).and(MASK)

    private companion object {
        val MASK: BigInteger = BigInteger.ONE.shiftLeft(128).subtract(BigInteger.ONE)
        val MULTIPLIER = BigInteger("2360ED051FC65DA44385DF649FCCF645", 16)

        fun join(high: Long, low: Long): BigInteger = BigInteger(java.lang.Long.toUnsignedString(high)).shiftLeft(64)
            .or(BigInteger(java.lang.Long.toUnsignedString(low)))
    }
}

/** NumPy's `SeedSequence` of one whole number: it spreads a seed over as many bits as a generator wants. */
private class SeedSequence(seed: Long) {
    private val pool = IntArray(4)

    init {
        val entropy = intArrayOf(seed.toInt(), (seed ushr 32).toInt(), 0, 0)
        var constant = 0x43b0d7e5
        fun hash(value: Int): Int {
            val mixed = value xor constant
            constant *= 0x931e8875.toInt()
            val product = mixed * constant
            return product xor (product ushr 16)
        }
        for (i in pool.indices) pool[i] = hash(entropy[i])
        for (source in pool.indices) {
            for (target in pool.indices) {
                if (source == target) continue
                val mixed = pool[target] * 0xca01f9dd.toInt() - hash(pool[source]) * 0x4973f715
                pool[target] = mixed xor (mixed ushr 16)
            }
        }
    }

    fun words64(count: Int): LongArray {
        var constant = 0x8b51f9dd.toInt()
        val words = IntArray(2 * count) {
            val mixed = pool[it % pool.size] xor constant
            constant *= 0x58f38ded
            val product = mixed * constant
            product xor (product ushr 16)
        }
        return LongArray(count) { (words[2 * it].toLong() and 0xFFFFFFFFL) or (words[2 * it + 1].toLong() shl 32) }
    }
}
