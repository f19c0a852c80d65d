package io.github.llmtflite.core

import java.io.ByteArrayOutputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.util.zip.DataFormatException
import java.util.zip.Inflater

/**
 * The `.litertlm` form of a file.
 *
 * Format: `schema/core/litertlm_header_schema.fbs` of github.com/google-ai-edge/LiteRT-LM; our manifest is a generic
 * section with a key of its own, as `llm_tflite/bundle/litertlm.py` has it.
 */
internal object LitertlmContainer {
    const val MAGIC = "LITERTLM"
    private const val MAJOR_VERSION = 1
    private const val HEADER_END_POSITION = 24
    private const val HEADER_POSITION = 32
    private const val MAX_HEADER_BYTES = 1L shl 20
    private const val MAX_ENTRIES = 4096
    private const val STRING_VALUE = 9
    private const val MAX_TOKENIZER_BYTES = 256L shl 20
    private val SECTION_NAMES = mapOf(
        3 to "model", 4 to "tokenizer", 5 to "llm_metadata", 6 to "tokenizer", 9 to "executor_metadata",
    )

    private class Section(val type: Int, val span: Span, val items: Map<String, String>)

    fun read(file: ByteBuffer): Contents {
        val size = file.capacity().toLong()
        val listed = sections(file)
        val ours = listed.filter { it.items["llm_tflite"] == "manifest" }
        if (ours.isEmpty()) {
            throw ModelError.NoManifest(
                "This .litertlm file was not made by llm_tflite. Run it with LiteRT-LM, or convert the model with " +
                    "llm_tflite.",
            )
        }
        if (ours.size > 1) throw ModelError.Damaged("The file describes itself ${ours.size} times.")
        val manifest = Manifest.read(file.bytes(ours.single().span))
        val sections = linkedMapOf("header" to Span(0, listed.minOf { it.span.begin }))
        for (section in listed - ours.toSet()) {
            val name = SECTION_NAMES[section.type]
            if (name == null || name in sections) throw ModelError.Damaged("The file has an unexpected section of type ${section.type}.")
            sections[name] = section.span
        }
        return Contents(manifest, ours.single().span, sections).also { it.checkShape(size) }
    }

    private fun sections(file: ByteBuffer): List<Section> {
        val bytes = file.duplicate().order(ByteOrder.LITTLE_ENDIAN)
        val size = file.capacity().toLong()
        if (size < HEADER_POSITION) throw ModelError.Truncated("The file ends inside its header. Copy the model again.")
        val major = bytes.getInt(8)
        if (major != MAJOR_VERSION) {
            throw ModelError.NewerFormat(
                "This app reads .litertlm files of version $MAJOR_VERSION; this one has version $major. Update the app.",
            )
        }
        val end = bytes.getLong(HEADER_END_POSITION)
        if (end !in HEADER_POSITION + 1..HEADER_POSITION + MAX_HEADER_BYTES) {
            throw ModelError.Damaged("The file's header claims to end at byte $end.")
        }
        if (end > size) throw ModelError.Truncated("The file ends inside its header. Copy the model again.")
        bytes.position(HEADER_POSITION)
        val root = FlatBuffer(bytes.slice(), end - HEADER_POSITION).root()
        val sections = root.table(1)?.tables(0, MAX_ENTRIES).orEmpty().map {
            Section(it.ubyte(3), Span(it.long(1), it.long(2)), strings(it))
        }
        for (section in sections) {
            val span = section.span
            if (span.begin < end || span.size < 0) throw ModelError.Damaged("A section of the file stands at $span.")
            if (span.end > size) {
                throw ModelError.Truncated("The file should have ${span.end} bytes or more; it has $size. Copy the model again.")
            }
        }
        return sections
    }

    private fun strings(section: FlatTable): Map<String, String> = section.tables(0, MAX_ENTRIES)
        .filter { it.ubyte(1) == STRING_VALUE }
        .associate { it.text(0) to it.table(2)?.text(0).orEmpty() }

    /** A `tokenizer.json` as it was before it was compressed; its size, of eight bytes, comes first. */
    fun unpackTokenizer(stored: ByteArray): ByteArray {
        val size = if (stored.size < 8) -1 else ByteBuffer.wrap(stored).order(ByteOrder.LITTLE_ENDIAN).getLong(0)
        if (size !in 0..MAX_TOKENIZER_BYTES) throw ModelError.Damaged("The tokenizer claims to have $size bytes.")
        val inflater = Inflater()
        try {
            inflater.setInput(stored, 8, stored.size - 8)
            val result = ByteArrayOutputStream(size.toInt())
            val chunk = ByteArray(1 shl 16)
            while (!inflater.finished() && result.size() <= size) {
                val count = inflater.inflate(chunk)
                if (count == 0) break
                result.write(chunk, 0, count)
            }
            if (result.size().toLong() != size) throw ModelError.Damaged("The tokenizer does not unpack to its $size bytes.")
            return result.toByteArray()
        } catch (e: DataFormatException) {
            throw ModelError.Damaged("The tokenizer cannot be unpacked.", e)
        } finally {
            inflater.end()
        }
    }
}
