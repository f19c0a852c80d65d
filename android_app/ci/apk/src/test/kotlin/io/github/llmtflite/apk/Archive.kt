package io.github.llmtflite.apk

import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import java.nio.file.Path

/** One file in an APK, and where its bytes begin. */
internal class Entry(val name: String, val stored: Boolean, val offset: Long, val size: Long)

/** The central directory of a ZIP archive: Java's own reader does not tell where the bytes are. Format: PKWARE's APPNOTE 6.3. */
internal fun entries(path: Path): List<Entry> = FileChannel.open(path).use { channel ->
    val bytes = channel.map(FileChannel.MapMode.READ_ONLY, 0, channel.size()).order(ByteOrder.LITTLE_ENDIAN)
    val end = (bytes.capacity() - 22 downTo 0).first { bytes.getInt(it) == 0x06054b50 }
    var at = bytes.getInt(end + 16)
    List(bytes.short(end + 10)) {
        check(bytes.getInt(at) == 0x02014b50)
        val name = ByteArray(bytes.short(at + 28)).also { bytes.duplicate().position(at + 46).get(it) }.decodeToString()
        val local = bytes.getInt(at + 42)
        val entry = Entry(
            name,
            stored = bytes.short(at + 10) == 0,
            offset = local + 30L + bytes.short(local + 26) + bytes.short(local + 28),
            size = bytes.getInt(at + 24).toLong(),
        )
        at += 46 + bytes.short(at + 28) + bytes.short(at + 30) + bytes.short(at + 32)
        entry
    }
}

private fun ByteBuffer.short(at: Int): Int = getShort(at).toInt() and 0xffff

/** The names of the classes that a DEX file defines, as in `io/github/Name`. Format: source.android.com/docs/core/runtime/dex-format. */
internal fun classesOf(dex: ByteArray): Set<String> {
    val bytes = ByteBuffer.wrap(dex).order(ByteOrder.LITTLE_ENDIAN)
    val strings = bytes.getInt(0x3c)
    val types = bytes.getInt(0x44)
    val classes = bytes.getInt(0x64)
    return (0 until bytes.getInt(0x60)).map { index ->
        val type = bytes.getInt(classes + 32 * index)
        var at = bytes.getInt(strings + 4 * bytes.getInt(types + 4 * type))
        // The length comes first, seven bits to a byte.
        while (dex[at] < 0) at++
        val begin = ++at
        while (dex[at] != 0.toByte()) at++
        dex.decodeToString(begin, at).removePrefix("L").removeSuffix(";")
    }.toSet()
}
