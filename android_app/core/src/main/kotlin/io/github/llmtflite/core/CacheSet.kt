package io.github.llmtflite.core

import java.nio.ByteBuffer

/** Memory for all caches and states of a model, with [slots] slots. */
internal class CacheSet(port: SignaturePort, private val caches: List<CacheBuffer>, private val slots: Int) {
    /** Where a run reads each cache. */
    val inputs: Map<String, ByteBuffer> get() = current

    /** Where a run writes each cache: in place, but for states. */
    val outputs: Map<String, ByteBuffer> get() = current + spares.mapValues { (name, _) -> written.getValue(name) }

    private val current = caches.associateTo(HashMap()) { it.name to port.buffer(bytes(it)) }

    // Nothing promises that a graph reads a state for the last time before it writes the new one, as it does with
    // slots; so states have two buffers, which change places.
    private val spares = caches.filter { it.slotAxis == null }.associateTo(HashMap()) { it.name to port.buffer(bytes(it)) }
    private var written: Map<String, ByteBuffer> = emptyMap()

    /** Begins a run: what the last one wrote is what this one reads. */
    fun turn() {
        if (spares.isEmpty()) return
        if (written.isNotEmpty()) {
            for ((name, buffer) in written) {
                spares[name] = current.getValue(name)
                current[name] = buffer
            }
        }
        written = HashMap(spares)
    }

    fun clear() = (current.values + spares.values).forEach { it.zero(0, it.capacity()) }

    /** Takes over a text from smaller caches. */
    fun copyFrom(smaller: CacheSet) {
        smaller.turn()
        for (cache in caches) {
            val source = smaller.current.getValue(cache.name)
            val target = current.getValue(cache.name)
            val axis = cache.slotAxis
            if (axis == null) {
                source.copyTo(target, 0, 0, source.capacity())
                continue
            }
            // Along the axes before that of slots, each row of the smaller cache is a part of one here.
            val rows = cache.shape.take(axis).fold(1, Int::times)
            val from = source.capacity() / rows
            val to = target.capacity() / rows
            for (row in 0 until rows) {
                source.copyTo(target, row * from, row * to, from)
                target.zero(row * to + from, (row + 1) * to)
            }
        }
        written = emptyMap()
    }

    private fun bytes(cache: CacheBuffer): Int {
        val bytes = cache.shape(slots).fold(cache.type.bytes.toLong(), Long::times)
        if (bytes > Int.MAX_VALUE) {
            throw ModelError.TooLarge("The cache ${cache.name} takes $bytes bytes. Convert with a smaller context_length.")
        }
        return bytes.toInt()
    }
}

private fun ByteBuffer.copyTo(target: ByteBuffer, from: Int, to: Int, count: Int) {
    val source = duplicate()
    source.limit(from + count)
    source.position(from)
    val destination = target.duplicate()
    destination.position(to)
    destination.put(source)
}

private fun ByteBuffer.zero(begin: Int, end: Int) {
    val target = duplicate()
    target.position(begin)
    val zeros = ByteArray(minOf(end - begin, 1 shl 16))
    while (target.position() < end) target.put(zeros, 0, minOf(zeros.size, end - target.position()))
}
