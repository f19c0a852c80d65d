package io.github.llmtflite.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/**
 * FlatBuffers tables of files that nobody vouches for: every offset is checked before it is followed.
 *
 * Format: https://flatbuffers.dev/internals.
 */
internal class FlatBuffer(bytes: ByteBuffer, private val end: Long = bytes.capacity().toLong()) {
    private val bytes = bytes.duplicate().order(ByteOrder.LITTLE_ENDIAN)

    fun root(): FlatTable = FlatTable(this, uint(0))

    fun ubyte(at: Long): Int = bytes.get(checked(at, 1)).toInt() and 0xFF

    fun ushort(at: Long): Int = bytes.getShort(checked(at, 2)).toInt() and 0xFFFF

    fun int(at: Long): Int = bytes.getInt(checked(at, 4))

    fun uint(at: Long): Long = int(at).toLong() and 0xFFFFFFFFL

    fun long(at: Long): Long = bytes.getLong(checked(at, 8))

    fun text(at: Long): String {
        val size = uint(at)
        val begin = checked(at + 4, size)
        return ByteArray(size.toInt()) { bytes.get(begin + it) }.toString(Charsets.UTF_8)
    }

    private fun checked(at: Long, size: Long): Int {
        if (at < 0 || at + size > end) {
            throw ModelError.Truncated(
                "The file refers to byte ${at + size} of $end: it was cut or altered. Copy the model again.",
            )
        }
        return at.toInt()
    }
}

/** One table; fields are asked for by their number in the schema. */
internal class FlatTable(private val buffer: FlatBuffer, private val start: Long) {
    private val vtable = start - buffer.int(start)
    private val vtableSize = buffer.ushort(vtable)

    /** Where the field stands, or null where it has its default. */
    fun position(field: Int): Long? {
        val entry = 4 + 2 * field
        if (entry + 2 > vtableSize) return null
        return buffer.ushort(vtable + entry).takeIf { it != 0 }?.let { start + it }
    }

    fun ubyte(field: Int): Int = position(field)?.let(buffer::ubyte) ?: 0

    fun uint(field: Int): Long = position(field)?.let(buffer::uint) ?: 0

    fun long(field: Int): Long = position(field)?.let(buffer::long) ?: 0

    fun table(field: Int): FlatTable? = target(field)?.let { FlatTable(buffer, it) }

    fun text(field: Int): String = target(field)?.let(buffer::text).orEmpty()

    /** The tables of a vector. */
    fun tables(field: Int, limit: Int): List<FlatTable> {
        val at = target(field) ?: return emptyList()
        val count = buffer.uint(at)
        if (count > limit) throw ModelError.Damaged("The file lists $count tables where at most $limit were expected.")
        return List(count.toInt()) { item(at, it) }
    }

    /** One table of a vector. */
    fun table(field: Int, index: Long): FlatTable {
        val at = target(field)
        if (at == null || index >= buffer.uint(at)) {
            throw ModelError.Damaged("The file refers to item $index of a shorter list: it was altered.")
        }
        return item(at, index.toInt())
    }

    private fun item(vector: Long, index: Int): FlatTable {
        val entry = vector + 4 + 4L * index
        return FlatTable(buffer, entry + buffer.uint(entry))
    }

    private fun target(field: Int): Long? = position(field)?.let { it + buffer.uint(it) }
}
