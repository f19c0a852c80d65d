package io.github.llmtflite.core

import kotlinx.coroutines.currentCoroutineContext
import kotlinx.coroutines.ensureActive
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.flow

/** Runs a model of the `prefill_decode` layout: caches outside the graph, one run for each token. */
internal class KvCacheEngine(private val model: OpenModel) : TextEngine {
    override val info: ModelInfo = model.file.info

    private val decoder = model.use { KvDecoder(it, model.manifest) }

    override fun stream(prompt: String, parameters: Parameters): Flow<Piece> = flow {
        val sampler = Sampler(parameters)
        val ids = model.prompt(prompt)
        model.inTurn {
            Answer(model.tokenizer, model.manifest.stopTokens, parameters.maxNewTokens, CacheWriter(sampler))
                .emitTo(this, ids)
        }
    }

    override fun countTokens(text: String): Int = model.tokenizer.encode(text).size

    override fun lastTokens(text: String, n: Int): String = model.lastTokens(text, n)

    override fun close() = model.close()

    private inner class CacheWriter(private val sampler: Sampler) : TokenWriter {
        private var begun = false

        override val full: Boolean get() = begun && decoder.full

        override suspend fun read(prompt: List<Int>): Int {
            begun = true
            val context = currentCoroutineContext()
            return pick { decoder.read(prompt) { context.ensureActive() } }
        }

        override suspend fun write(token: Int): Int {
            currentCoroutineContext().ensureActive()
            return pick { decoder.decode(token) }
        }

        private fun pick(logits: () -> FloatArray): Int = model.use {
            val scores = logits()
            try {
                sampler.pick(scores)
            } catch (e: ModelError.RuntimeFailure) {
                decoder.clear()
                throw e
            }
        }
    }
}
