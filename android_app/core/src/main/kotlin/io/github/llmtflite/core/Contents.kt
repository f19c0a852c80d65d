package io.github.llmtflite.core

import java.nio.ByteBuffer

/** A part of a file: from [begin] to [end], exclusive. */
internal data class Span(val begin: Long, val end: Long) {
    val size: Long get() = end - begin
}

/**
 * Where a container keeps its manifest and every section that the manifest vouches for.
 *
 * @property atRest where in the file numbers of eight bytes stand that were 1 when the model's digest was taken.
 */
internal class Contents(
    val manifest: Manifest,
    private val manifestSpan: Span,
    val sections: Map<String, Span>,
    private val atRest: Set<Long> = emptySet(),
) {
    /** Compares the sections found with those listed, without reading them. */
    fun checkShape(fileSize: Long) {
        val listed = manifest.sections.mapValues { it.value.size }
        val found = sections.mapValues { it.value.size }
        if (listed != found) {
            throw ModelError.Damaged("The file lists the sections $listed and holds $found: it was altered.")
        }
        val spans = inOrder
        if (spans.zipWithNext().any { (before, after) -> before.end > after.begin } || spans.first().begin != 0L) {
            throw ModelError.Damaged("The file's sections overlap or do not begin at its first byte: it was altered.")
        }
        if (spans.last().end != fileSize) {
            throw ModelError.Damaged("The file should have ${spans.last().end} bytes; it has $fileSize.")
        }
        if ("model" !in sections) throw ModelError.Damaged("The file holds no model.")
        if (("tokenizer" in sections) != (manifest.tokenizerKind != null)) {
            throw ModelError.Damaged("The file's description and its sections disagree about the tokenizer.")
        }
    }

    private val inOrder: List<Span>
        get() = (sections.values + manifestSpan).sortedWith(compareBy(Span::begin, Span::end))

    /** Compares every section with its digest, and what stands between two with zeros. */
    fun verify(file: ByteBuffer) {
        for ((before, after) in inOrder.zipWithNext()) {
            if ((before.end until after.begin).any { file.get(it.toInt()) != 0.toByte() }) {
                throw ModelError.Damaged("The file has unexpected bytes behind byte ${before.end}: it was changed or damaged.")
            }
        }
        for ((name, span) in sections) {
            val digest = sha256()
            val bytes = ByteArray(CHUNK_BYTES)
            var at = span.begin
            while (at < span.end) {
                val count = minOf(CHUNK_BYTES.toLong(), span.end - at).toInt()
                val source = file.duplicate()
                source.position(at.toInt())
                source.get(bytes, 0, count)
                for (position in atRest) {
                    for (i in 0 until 8) {
                        val index = position + i - at
                        if (index in 0 until count) bytes[index.toInt()] = if (i == 0) 1 else 0
                    }
                }
                digest.update(bytes, 0, count)
                at += count
            }
            if (digest.digest().hex() != manifest.sections.getValue(name).sha256) {
                throw ModelError.WrongDigest(
                    "The file's section \"$name\" does not match its digest: it was changed or damaged. " +
                        "Copy or convert the model again.",
                )
            }
        }
    }

    private companion object {
        const val CHUNK_BYTES = 1 shl 20
    }
}

/** The bytes of a part of a file. */
internal fun ByteBuffer.bytes(span: Span): ByteArray {
    val bytes = ByteArray(span.size.toInt())
    val source = duplicate()
    source.position(span.begin.toInt())
    source.get(bytes)
    return bytes
}
