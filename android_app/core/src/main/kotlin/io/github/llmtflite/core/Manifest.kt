package io.github.llmtflite.core

import java.security.MessageDigest

/** What a file says of itself, as far as running it needs; written by `llm_tflite/manifest.py`. */
internal data class Manifest(
    val layout: String,
    val model: ModelFacts,
    val cache: List<CacheBuffer>,
    val startToken: Int?,
    val stopTokens: Set<Int>,
    val tokenizerKind: String?,
    val quantizer: String,
    val text: TextFacts?,
    val sections: Map<String, SectionFacts>,
) {
    companion object {
        private const val MAJOR_VERSION = 1
        private const val DIGEST = "digest"

        /**
         * Reads a manifest that nobody has changed.
         *
         * It is canonical JSON with the SHA-256 of itself without that digest.
         *
         * @throws ModelError.WrongDigest it is not the one that was written.
         * @throws ModelError.NewerFormat it has a later major version.
         * @throws ModelError.Damaged it lacks something, or contradicts itself.
         */
        fun read(bytes: ByteArray): Manifest {
            try {
                val text = bytes.toString(Charsets.UTF_8)
                val content = Json.parse(text)
                val span = Json.memberSpan(text, DIGEST) ?: throw JsonException("it lacks its digest")
                val rest = text.removeRange(span).toByteArray()
                if (content[DIGEST].text() != sha256().digest(rest).hex()) {
                    throw ModelError.WrongDigest(
                        "The file's description of itself does not match its digest: it was changed or " +
                            "damaged after it was written. Copy or convert the model again.",
                    )
                }
                checkVersion(content["format_version"].text())
                return decode(content).also { it.check() }
            } catch (e: JsonException) {
                throw ModelError.Damaged("The file's description of itself cannot be read: ${e.message}.", e)
            }
        }

        private fun checkVersion(version: String) {
            val major = version.substringBefore('.').toIntOrNull() ?: throw JsonException("format_version is $version")
            if (major != MAJOR_VERSION) {
                throw ModelError.NewerFormat(
                    "This app reads files of format $MAJOR_VERSION; this one has format $version. " +
                        "Update the app, or convert the model with an older llm_tflite.",
                )
            }
        }

        private fun decode(content: Json): Manifest {
            val tokens = content["tokens"]
            return Manifest(
                layout = content["layout"].text(),
                model = ModelFacts.decode(content["model"]),
                cache = content["cache"].list().map(CacheBuffer::decode),
                startToken = tokens.find("start")?.int(),
                stopTokens = tokens["stop"].list().map(Json::int).toSet(),
                tokenizerKind = content.find("tokenizer")?.get("kind")?.text(),
                quantizer = content["quantization"]["strategy"].text(),
                text = content.find("text")?.let(TextFacts::decode),
                sections = content["sections"].let { listed ->
                    listed.keys.associateWith { SectionFacts(listed[it]["sha256"].text(), listed[it]["size"].long()) }
                },
            )
        }
    }

    private fun check() {
        val slots = listOf(0) + model.shortCaches + model.contextLength
        if (slots.zipWithNext().any { (a, b) -> a >= b }) throw JsonException("model.short_caches are ${model.shortCaches}")
        val lengths = listOf(0) + model.prefillLengths
        if (lengths.zipWithNext().any { (a, b) -> a >= b } || lengths.last() > model.contextLength) {
            throw JsonException("model.prefill_lengths are ${model.prefillLengths}")
        }
        for (token in stopTokens + listOfNotNull(startToken)) {
            if (token >= model.vocabularySize) throw JsonException("token $token is outside the vocabulary")
        }
        for (buffer in cache) {
            val axis = buffer.slotAxis
            if (axis == null && !model.exactPrefill) throw JsonException("the state ${buffer.name} needs exact_prefill")
            if (axis != null && buffer.shape.getOrNull(axis) != model.contextLength) {
                throw JsonException("the cache ${buffer.name} has not the context along axis $axis")
            }
        }
    }
}

internal data class SectionFacts(val sha256: String, val size: Long)

/** What the model is and how much it takes at once; see `Model` of `llm_tflite/manifest.py`. */
internal data class ModelFacts(
    val name: String,
    val parameters: Long,
    val vocabularySize: Int,
    val contextLength: Int,
    val prefillLengths: List<Int>,
    val shortCaches: List<Int>,
    val exactPrefill: Boolean,
    val prefixPrefill: Boolean,
) {
    /** Names the graph that reads [length] tokens, or decodes one, with caches of [slots], or of the whole context. */
    fun signature(length: Int?, slots: Int): String {
        val name = if (length == null) "decode" else "prefill_$length"
        return when {
            slots != contextLength -> "cache_${slots}_$name"
            exactPrefill && length != null && length != 1 -> "exact_$name"
            prefixPrefill && length != null && length != contextLength -> "whole_$name"
            else -> name
        }
    }

    /** Lengths of the prefill graphs with caches of [slots]. */
    fun ladder(slots: Int): List<Int> {
        if (slots == contextLength) return prefillLengths
        val fitting = prefillLengths.filter { it <= slots }
        return if (slots == shortCaches.first()) fitting else fitting.takeLast(1)
    }

    companion object {
        fun decode(content: Json) = ModelFacts(
            name = content["class"].text(),
            parameters = content["parameters"].long(),
            vocabularySize = content["vocabulary_size"].int(),
            contextLength = content["context_length"].int(),
            prefillLengths = content["prefill_lengths"].list().map(Json::int),
            shortCaches = content["short_caches"].list().map(Json::int),
            exactPrefill = content["exact_prefill"].flag(),
            prefixPrefill = content["prefix_prefill"].flag(),
        )
    }
}

/**
 * One tensor that lives from call to call.
 *
 * @property shape for the whole context.
 * @property slotAxis along which tokens lie; null for a state, which every token changes as a whole.
 */
internal data class CacheBuffer(val name: String, val shape: List<Int>, val type: TensorType, val slotAxis: Int?) {
    /** Its shape with [slots] along the axis of slots. */
    fun shape(slots: Int): List<Int> = shape.mapIndexed { axis, size -> if (axis == slotAxis) slots else size }

    companion object {
        private val TYPES =
            mapOf("float32" to TensorType.FLOAT32, "float16" to TensorType.FLOAT16, "int8" to TensorType.INT8)

        fun decode(content: Json): CacheBuffer {
            val type = content["dtype"].text()
            return CacheBuffer(
                content["name"].text(),
                content["shape"].list().map(Json::int),
                TYPES[type] ?: throw JsonException("a cache has the unknown type $type"),
                content.find("slot_axis")?.int(),
            )
        }
    }
}

/** What a graph that takes and gives text was made for. */
internal data class TextFacts(val form: String, val specialTokens: Boolean, val topK: Int, val temperature: Double) {
    companion object {
        fun decode(content: Json) = TextFacts(
            content["form"].text(),
            content["special_tokens"].flag(),
            content["top_k"].int(),
            content["temperature"].double(),
        )
    }
}

internal fun sha256(): MessageDigest = MessageDigest.getInstance("SHA-256")

internal fun ByteArray.hex(): String = joinToString("") { "%02x".format(it) }
