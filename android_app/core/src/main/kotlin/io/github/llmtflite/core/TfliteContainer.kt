package io.github.llmtflite.core

import java.nio.ByteBuffer

/**
 * The `.tflite` form of a file: tokenizer and manifest are metadata entries whose buffers lie behind the flatbuffer.
 *
 * Field numbers are those of `tflite/schema.fbs` of github.com/google-ai-edge/LiteRT; the form is that of
 * `llm_tflite/bundle/tflite_metadata.py`.
 */
internal object TfliteContainer {
    const val IDENTIFIER = "TFL3"
    private const val MODEL_BUFFERS = 4
    private const val MODEL_METADATA = 6
    private const val METADATA_NAME = 0
    private const val METADATA_BUFFER = 1
    private const val BUFFER_OFFSET = 1
    private const val BUFFER_SIZE = 2
    private const val MAX_ENTRIES = 1024
    private const val UNUSED = 1L

    private class Slot(val offsetPosition: Long, val sizePosition: Long, val span: Span?)

    fun read(file: ByteBuffer): Contents {
        val size = file.capacity().toLong()
        val slots = slots(file)
        val span = slots["manifest"]?.span ?: throw ModelError.NoManifest(
            "This .tflite file was not made by llm_tflite, so it does not say how text becomes tokens. " +
                "Convert the model with llm_tflite.",
        )
        if (span.begin < 0 || span.size < 0 || span.end > size) {
            throw ModelError.Truncated("The file should have ${span.end} bytes; it has $size. Copy the model again.")
        }
        val manifest = Manifest.read(file.bytes(span))
        val sections = LinkedHashMap<String, Span>()
        manifest.sections["model"]?.let { sections["model"] = Span(0, it.size) }
        slots["tokenizer"]?.span?.let { sections["tokenizer"] = it }
        val atRest = slots.values.flatMap { listOf(it.offsetPosition, it.sizePosition) }.toSet()
        return Contents(manifest, span, sections, atRest).also { it.checkShape(size) }
    }

    private fun slots(file: ByteBuffer): Map<String, Slot> {
        val model = FlatBuffer(file).root()
        val slots = HashMap<String, Slot>()
        for (entry in model.tables(MODEL_METADATA, MAX_ENTRIES)) {
            val name = entry.text(METADATA_NAME)
            if (!name.startsWith("llm_tflite.")) continue
            val buffer = model.table(MODEL_BUFFERS, entry.uint(METADATA_BUFFER))
            val offset = buffer.position(BUFFER_OFFSET)
            val length = buffer.position(BUFFER_SIZE)
            if (offset == null || length == null) throw ModelError.Damaged("The metadata entry \"$name\" is damaged.")
            val begin = buffer.long(BUFFER_OFFSET)
            val bytes = buffer.long(BUFFER_SIZE)
            val span = if (begin == UNUSED && bytes == UNUSED) null else Span(begin, begin + bytes)
            slots[name.substringAfter('.')] = Slot(offset, length, span)
        }
        return slots
    }
}
