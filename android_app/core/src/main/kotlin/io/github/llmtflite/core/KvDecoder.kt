package io.github.llmtflite.core

import java.nio.ByteBuffer

/**
 * The caches of one answer, and the calls that fill them; as `llm_tflite/decoding.py`.
 *
 * A text begins in the smallest caches that the model has graphs for and moves to larger ones as it grows: attention
 * takes the time of what is allocated. States, which have no slots, never see a pad.
 */
internal class KvDecoder(private val port: SignaturePort, private val manifest: Manifest) {
    private val facts = manifest.model
    private val sizes = facts.shortCaches + facts.contextLength
    private val caches = HashMap<Int, CacheSet>()
    private val calls = HashMap<String, Call>()
    private val logitsBuffer = port.buffer(facts.vocabularySize * TensorType.FLOAT32.bytes)
    private val logits = FloatArray(facts.vocabularySize)
    private var slots = sizes.first()

    /** How many tokens the caches hold; the next one goes to this slot. */
    var position = 0
        private set

    /** Whether no further token has a slot. */
    val full: Boolean get() = position >= facts.contextLength

    init {
        checkSignatures()
    }

    /**
     * Begins anew with [tokens]; the result, which the next call overwrites, has the scores of every token that
     * could come next.
     *
     * @param tokens at least one, and at most as many as the context has slots.
     * @param checkActive is called before each run and may throw.
     */
    fun read(tokens: List<Int>, checkActive: () -> Unit): FloatArray {
        slots = sizeFor(tokens.size, tokens.size)
        if (slots == facts.contextLength) {
            // Its prefill graphs give no scores, so the last token is read by itself.
            if (facts.prefixPrefill) {
                runChunks(tokens, checkActive)
                position -= 1 // it sees the same when it is read once more
            } else {
                runChunks(tokens.dropLast(1), checkActive)
            }
            checkActive()
            return decode(tokens.last())
        }
        runChunks(tokens, checkActive)
        return scores()
    }

    /** Reads one token; the result is as in [read]. */
    fun decode(token: Int): FloatArray {
        if (position >= slots) grow()
        run(call(null), listOf(token), position)
        position += 1
        return scores()
    }

    /** Writes zeros over the caches: after scores that are not finite, zero times what they hold is not zero. */
    fun clear() = caches.values.forEach(CacheSet::clear)

    private fun runChunks(tokens: List<Int>, checkActive: () -> Unit) {
        val ladder = facts.ladder(slots)
        val lengths = ladder + 1
        val steps = if (facts.prefixPrefill) {
            ChunkPlan.whole(tokens.size, lengths)
        } else {
            // Without room behind the tokens, the plan has no pads.
            ChunkPlan.chunks(tokens.size, lengths, if (facts.exactPrefill) tokens.size else slots)
        }
        for (step in steps) {
            checkActive()
            val call = call(step.length.takeIf { it in ladder })
            run(call, tokens.subList(step.start, step.start + step.count), step.start)
        }
        position = tokens.size
    }

    private fun run(call: Call, tokens: List<Int>, start: Int) {
        for (i in 0 until call.length) {
            // Pads are at position 0, which shows where a prefix model's prompt ends.
            call.tokens.putInt(4 * i, if (i < tokens.size) tokens[i] else 0)
            call.positions.putInt(4 * i, if (i < tokens.size) start + i else 0)
        }
        call.row?.putInt(0, tokens.size - 1)
        val set = caches.getValue(slots)
        set.turn()
        call.runner.run(call.inputs + set.inputs, call.outputs + set.outputs)
    }

    private fun scores(): FloatArray {
        logitsBuffer.asFloatBuffer().get(logits)
        return logits
    }

    /** The least slots that hold [count] tokens, [prompt] of them read at once where a prompt must not be cut. */
    private fun sizeFor(count: Int, prompt: Int): Int = sizes.firstOrNull {
        it >= count && (!facts.prefixPrefill || maxOf(1, facts.ladder(it).maxOrNull() ?: 1) >= prompt)
    } ?: sizes.last()

    /** Moves the text to the next larger caches. */
    private fun grow() {
        val smaller = caches.getValue(slots)
        slots = sizeFor(position + 1, 0)
        cacheSet().copyFrom(smaller)
    }

    private fun cacheSet(): CacheSet = caches.getOrPut(slots) { CacheSet(port, manifest.cache, slots) }

    /** The graph that reads [length] tokens, or decodes one, with the caches in use. */
    private fun call(length: Int?): Call {
        cacheSet()
        val name = facts.signature(length, slots)
        return calls.getOrPut(name) {
            val signature = port.signatures.getValue(name)
            val count = length ?: 1
            Call(
                runner = port.runner(name),
                length = count,
                tokens = port.buffer(4 * count),
                positions = port.buffer(4 * count),
                row = if (ROW in signature.inputs) port.buffer(4) else null,
                logits = if (LOGITS in signature.outputs) logitsBuffer else null,
            )
        }
    }

    /** Refuses a model whose graphs are not those that its manifest promises; the runtime checks neither shapes nor places. */
    private fun checkSignatures() {
        for (size in sizes) {
            for (length in listOf(null) + facts.ladder(size)) {
                val count = length ?: 1
                val name = facts.signature(length, size)
                val found = port.signatures[name]
                    ?: throw ModelError.UnsupportedModel("The model lacks the signature \"$name\" that its file promises.")
                val cacheInfo = manifest.cache.associate { it.name to TensorInfo(it.name, it.type, it.shape(size)) }
                val inputs = cacheInfo.toMutableMap()
                inputs[TOKENS] = TensorInfo(TOKENS, TensorType.INT32, listOf(1, count))
                inputs[POSITIONS] = TensorInfo(POSITIONS, TensorType.INT32, listOf(count))
                val outputs = cacheInfo.toMutableMap()
                if (length == null || size != facts.contextLength) {
                    outputs[LOGITS] = TensorInfo(LOGITS, TensorType.FLOAT32, listOf(1, 1, facts.vocabularySize))
                    if (length != null && length != 1) inputs[ROW] = TensorInfo(ROW, TensorType.INT32, listOf(1))
                }
                checkTensors("an input of \"$name\"", inputs, found.inputs)
                checkTensors("an output of \"$name\"", outputs, found.outputs)
            }
        }
    }

    private fun checkTensors(what: String, expected: Map<String, TensorInfo>, found: Map<String, TensorInfo>) {
        for (name in expected.keys + found.keys) {
            if (expected[name] != found[name]) {
                throw ModelError.UnsupportedModel(
                    "The file promises ${expected[name]} as $what, and its model has ${found[name]}. Convert it again.",
                )
            }
        }
    }

    /** One signature with all that a run needs, made once and used for every token. */
    private class Call(
        val runner: SignatureRunner,
        val length: Int,
        val tokens: ByteBuffer,
        val positions: ByteBuffer,
        val row: ByteBuffer?,
        logits: ByteBuffer?,
    ) {
        val inputs: Map<String, ByteBuffer> = buildMap {
            put(TOKENS, tokens)
            put(POSITIONS, positions)
            row?.let { put(ROW, it) }
        }
        val outputs: Map<String, ByteBuffer> = if (logits == null) emptyMap() else mapOf(LOGITS to logits)
    }

    private companion object {
        const val TOKENS = "tokens"
        const val POSITIONS = "input_pos"
        const val ROW = "logits_row"
        const val LOGITS = "logits"
    }
}
