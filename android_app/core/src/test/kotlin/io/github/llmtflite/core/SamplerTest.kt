package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.TestFactory

class SamplerTest {
    @TestFactory
    fun `random numbers are NumPy's`(): List<DynamicTest> = Golden.content["random"].list().map { case ->
        val seed = case["seed"].long()
        DynamicTest.dynamicTest("seed $seed") {
            val doubles = Pcg64(seed)
            for (expected in case["doubles"].list()) assertEquals(expected.double(), doubles.nextDouble())
            val floats = Pcg64(seed)
            for (expected in case["floats"].list()) assertEquals(expected.double(), floats.nextFloat().toDouble())
        }
    }

    @TestFactory
    fun `tokens are drawn as in Python`(): List<DynamicTest> = Golden.content["sampling"].list().map { case ->
        val parameters = Parameters(
            temperature = case["temperature"].double().toFloat(),
            topK = case["top_k"].int(),
            topP = case["top_p"].double().toFloat(),
            seed = case["seed"].long(),
        )
        DynamicTest.dynamicTest("$parameters") {
            val logits = case["logits"].list().map { it.double().toFloat() }.toFloatArray()
            val sampler = Sampler(parameters)
            val tokens = case["tokens"].list().map(Json::int)
            assertEquals(tokens, tokens.map { sampler.pick(logits) })
        }
    }

    @Test
    fun `of equal scores the lowest id is greedy's`() {
        assertEquals(1, Sampler(Parameters()).pick(floatArrayOf(0f, 2f, 2f)))
    }

    @Test
    fun `scores that are not finite are an error`() {
        for (bad in listOf(Float.NaN, Float.POSITIVE_INFINITY)) {
            assertThrows(ModelError.RuntimeFailure::class.java) { Sampler(Parameters()).pick(floatArrayOf(1f, bad, 0f)) }
        }
    }

    @Test
    fun `a tiny temperature is greedy, not NaN`() {
        assertEquals(2, Sampler(Parameters(temperature = 1e-38f, seed = 1)).pick(floatArrayOf(0f, 1f, 3f)))
    }

    @TestFactory
    fun `impossible parameters are refused`(): List<DynamicTest> = listOf(
        Parameters(temperature = -1f),
        Parameters(temperature = Float.NaN),
        Parameters(topK = -1),
        Parameters(topP = 0f),
        Parameters(topP = 1.5f),
        Parameters(seed = -1),
        Parameters(maxNewTokens = -1),
    ).map {
        DynamicTest.dynamicTest("$it") { assertThrows(ModelError.InvalidParameter::class.java) { Sampler(it) } }
    }
}
