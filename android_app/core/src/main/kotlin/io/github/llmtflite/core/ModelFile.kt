package io.github.llmtflite.core

import java.nio.ByteBuffer
import java.nio.channels.FileChannel
import java.nio.file.Path
import java.nio.file.StandardOpenOption

/**
 * A file that llm_tflite wrote, `.tflite` or `.litertlm`, mapped into memory; only what is read takes room.
 *
 * The file must not be written to while it is in use.
 *
 * @property name what the file is called, for messages.
 * @property model the whole `.tflite` model, direct and read-only, for [RuntimePort.open].
 */
class ModelFile private constructor(val name: String, private val bytes: ByteBuffer, private val contents: Contents) {
    val info: ModelInfo = info(contents.manifest, bytes.capacity().toLong())

    val model: ByteBuffer = run {
        // A .tflite file is all model: the offsets inside count from its first byte.
        val span = if (isTflite(bytes)) Span(0, bytes.capacity().toLong()) else contents.sections.getValue("model")
        val part = bytes.duplicate()
        part.limit(span.end.toInt())
        part.position(span.begin.toInt())
        part.slice()
    }

    internal val manifest: Manifest get() = contents.manifest

    /** The tokenizer's bytes as its library reads them; null where the file has none. */
    internal fun tokenizerBytes(): ByteArray? {
        val stored = contents.sections["tokenizer"]?.let(bytes::bytes) ?: return null
        return if (!isTflite(bytes) && manifest.tokenizerKind == "hf") LitertlmContainer.unpackTokenizer(stored) else stored
    }

    companion object {
        /** Opens a file by its path; see the other [open]. */
        fun open(path: Path): ModelFile =
            FileChannel.open(path, StandardOpenOption.READ).use { open(path.fileName.toString(), it) }

        /**
         * Opens a file and compares every byte with its digests, which reads all of it once.
         *
         * @param name what to call it in messages.
         * @param channel may be closed afterwards.
         * @param begin where in the channel it stands, as for an asset of an app.
         * @param size its bytes.
         * @throws ModelError.NotAModel it is neither a `.tflite` nor a `.litertlm` file.
         * @throws ModelError.NoManifest another program wrote it.
         * @throws ModelError.NewerFormat a later version wrote it.
         * @throws ModelError.Truncated it was cut.
         * @throws ModelError.WrongDigest it was changed.
         * @throws ModelError.Damaged it contradicts itself.
         * @throws ModelError.TooLarge it has 2 GiB or more.
         */
        fun open(name: String, channel: FileChannel, begin: Long = 0, size: Long = channel.size() - begin): ModelFile {
            val bytes = map(channel, begin, size)
            val contents = read(bytes)
            contents.verify(bytes)
            return ModelFile(name, bytes, contents)
        }

        /** What a file says of its model; reads a few kilobytes and compares no digest but the manifest's. */
        fun describe(channel: FileChannel, begin: Long = 0, size: Long = channel.size() - begin): ModelInfo =
            info(read(map(channel, begin, size)).manifest, size)

        private fun map(channel: FileChannel, begin: Long, size: Long): ByteBuffer {
            if (size > Int.MAX_VALUE) {
                throw ModelError.TooLarge("The file has $size bytes; one of less than 2 GiB can be mapped. Use a smaller quantizer.")
            }
            return channel.map(FileChannel.MapMode.READ_ONLY, begin, size)
        }

        private fun read(bytes: ByteBuffer): Contents {
            val start = bytes.bytes(Span(0, minOf(8L, bytes.capacity().toLong()))).toString(Charsets.ISO_8859_1)
            return when {
                start == LitertlmContainer.MAGIC -> LitertlmContainer.read(bytes)
                start.drop(4) == TfliteContainer.IDENTIFIER -> TfliteContainer.read(bytes)
                start.startsWith("PK") -> throw ModelError.NotAModel(
                    "This is a zip archive, perhaps a .task file; a .tflite or .litertlm file was expected. " +
                        "Convert the model with llm_tflite.",
                )
                else -> throw ModelError.NotAModel("This is neither a .tflite nor a .litertlm file. Choose another file.")
            }
        }

        private fun isTflite(bytes: ByteBuffer): Boolean = bytes.get(4) == 'T'.code.toByte()

        private fun info(manifest: Manifest, size: Long) = ModelInfo(
            name = manifest.model.name,
            layout = manifest.layout,
            quantizer = manifest.quantizer,
            parameters = manifest.model.parameters,
            contextLength = manifest.model.contextLength,
            sizeBytes = size,
            fixedChoice = manifest.text?.let {
                if (it.topK == 1) TokenChoice(0f, 0) else TokenChoice(it.temperature.toFloat(), it.topK)
            },
        )
    }
}
