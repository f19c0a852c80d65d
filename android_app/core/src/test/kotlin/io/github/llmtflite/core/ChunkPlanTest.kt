package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

class ChunkPlanTest {
    @Test
    fun `plans are those of Python for every count of tokens`() {
        val plans = Golden.content["plans"].list()
        assertTrue(plans.size > 300)
        for (plan in plans) {
            val count = plan["count"].int()
            val steps = ChunkPlan.chunks(count, plan["lengths"].list().map(Json::int), plan["capacity"].int())
            assertEquals(
                plan["steps"].list().map { it.list().map(Json::int) },
                steps.map { listOf(it.start, it.count, it.length) },
                "of $count tokens",
            )
        }
    }

    @Test
    fun `no call is padded past the cache`() {
        for (count in 0..64) {
            for (step in ChunkPlan.chunks(count, listOf(1, 8, 32), 64)) assertTrue(step.start + step.length <= 64)
        }
    }

    @Test
    fun `a prompt that must not be cut takes the shortest call that holds it`() {
        assertEquals(listOf(ChunkStep(0, 9, 32)), ChunkPlan.whole(9, listOf(1, 8, 32, 64)))
        assertEquals(emptyList<ChunkStep>(), ChunkPlan.whole(0, listOf(1, 8)))
    }
}
