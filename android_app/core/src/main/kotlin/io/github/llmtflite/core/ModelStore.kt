package io.github.llmtflite.core

import java.io.File
import java.io.FileOutputStream
import java.io.IOException
import java.io.InputStream
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.StandardCopyOption

/** Where the bytes of a model stand. */
interface ModelSource {
    val name: String

    /** Calls [read] with an open channel, where the file begins in it and how many bytes it has. */
    fun <T> read(read: (channel: FileChannel, begin: Long, size: Long) -> T): T
}

/**
 * Models that came with the app, and those that the user imported into [folder].
 *
 * @param threads at most this many for one run.
 */
class ModelStore(
    private val folder: File,
    private val bundled: List<ModelSource>,
    private val runtime: RuntimePort,
    private val threads: Int,
) : ModelLibrary {
    init {
        // What a process that was ended has left of an import.
        files().filter { it.name.endsWith(UNFINISHED) }.forEach(File::delete)
    }

    /**
     * The models whose manifest can be read.
     *
     * @throws ModelError there are only others.
     */
    override fun list(): List<ModelChoice> {
        val described = sources().map { (id, source) -> runCatching { describe(id, source) } }
        val choices = described.mapNotNull { it.getOrNull() }
        if (choices.isEmpty()) described.firstNotNullOfOrNull { it.exceptionOrNull() }?.let { throw it }
        return choices
    }

    override fun open(id: String): TextEngine {
        val source = sources()[id] ?: throw IOException("The model $id is not on this device any more. Choose another one.")
        val file = source.read { channel, begin, size -> ModelFile.open(source.name, channel, begin, size) }
        return file.openEngine(runtime, threads)
    }

    /**
     * Copies a model into the folder and compares it with its digests: whole and right, or not at all.
     *
     * @param name of the file; a model of the same name is replaced.
     * @param size of the file, null where it is not known.
     * @param report is told after every megabyte how many bytes were copied; what it throws ends the import.
     */
    suspend fun import(name: String, input: InputStream, size: Long?, report: suspend (Long) -> Unit): ModelChoice {
        if (!folder.isDirectory && !folder.mkdirs()) throw IOException("The folder $folder cannot be made.")
        if (size != null && size > folder.usableSpace) {
            throw IOException("The model has $size bytes and the device has room for ${folder.usableSpace}. Make room and import it again.")
        }
        val unfinished = File.createTempFile("import", UNFINISHED, folder)
        try {
            copy(input, unfinished, report)
            // Verified as a copy: what was read from the other app may never come the same again.
            val info = FileChannel.open(unfinished.toPath()).use { ModelFile.open(name, it).info }
            val target = File(folder, safeName(name))
            Files.move(unfinished.toPath(), target.toPath(), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE)
            return ModelChoice(IMPORTED + target.name, target.name, info)
        } finally {
            Files.deleteIfExists(unfinished.toPath())
        }
    }

    private suspend fun copy(input: InputStream, target: File, report: suspend (Long) -> Unit) {
        FileOutputStream(target).use { output ->
            val buffer = ByteArray(CHUNK_BYTES)
            var copied = 0L
            while (true) {
                val count = input.readNBytes(buffer)
                if (count == 0) break
                output.write(buffer, 0, count)
                copied += count
                report(copied)
            }
            output.fd.sync()
        }
    }

    /** Fills the buffer as far as there are bytes. */
    private fun InputStream.readNBytes(buffer: ByteArray): Int {
        var filled = 0
        while (filled < buffer.size) {
            val count = read(buffer, filled, buffer.size - filled)
            if (count < 0) break
            filled += count
        }
        return filled
    }

    private fun describe(id: String, source: ModelSource): ModelChoice =
        ModelChoice(id, source.name, source.read { channel, begin, size -> ModelFile.describe(channel, begin, size) })

    private fun sources(): Map<String, ModelSource> =
        bundled.associateBy { BUNDLED + it.name } +
            files().filter { !it.name.endsWith(UNFINISHED) }.sorted().associate { IMPORTED + it.name to ImportedFile(it) }

    private fun files(): List<File> = folder.listFiles()?.filter { it.isFile } ?: emptyList()

    private class ImportedFile(private val file: File) : ModelSource {
        override val name: String get() = file.name

        override fun <T> read(read: (FileChannel, Long, Long) -> T): T =
            FileChannel.open(file.toPath()).use { read(it, 0, it.size()) }
    }

    companion object {
        private const val BUNDLED = "bundled:"
        private const val IMPORTED = "imported:"
        private const val UNFINISHED = ".unfinished"
        private const val CHUNK_BYTES = 1 shl 20
        private const val LONGEST_NAME = 100

        /** A name inside of the folder, whatever another app calls the file. */
        internal fun safeName(name: String): String {
            val last = name.substringAfterLast('/').substringAfterLast('\\')
            val kept = last.map { if (it.isLetterOrDigit() || it in "._-+ ") it else '_' }.joinToString("")
            val trimmed = kept.trim().trimStart('.').takeLast(LONGEST_NAME)
            return if (trimmed.isEmpty() || trimmed.endsWith(UNFINISHED)) "model" else trimmed
        }
    }
}
