package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.ValueSource

class JsonTest {
    @Test
    fun `values are read as they were written`() {
        val json = Json.parse(""" {"a": [1, -2.5e1, true, null, "x\"\\\/\b\f\n\r\t\u00e9\ud83d\ude00"], "b": {}} """)
        val items = json["a"].list()
        assertEquals(1, items[0].int())
        assertEquals(-25.0, items[1].double())
        assertTrue(items[2].flag())
        assertEquals("x\"\\/\b\u000C\n\r\té\uD83D\uDE00", items[4].text())
        assertEquals(null, json.find("missing"))
        assertEquals(emptySet<String>(), json["b"].keys)
    }

    @ParameterizedTest
    @ValueSource(strings = ["", "{", "[1,", "[1 2]", "{\"a\" 1}", "{\"a\":1,\"a\":2}", "nul", "\"\u0001\"", "\"\\x\"", "1 2", "--1", "\"a"])
    fun `what is not JSON is refused`(text: String) {
        assertThrows(JsonException::class.java) { Json.parse(text) }
    }

    @Test
    fun `deep nesting is refused instead of overflowing the stack`() {
        assertThrows(JsonException::class.java) { Json.parse("[".repeat(100_000)) }
    }

    @Test
    fun `an error says where a value stands and what it is`() {
        val error = assertThrows(JsonException::class.java) { Json.parse("{\"a\":{\"b\":[\"x\"]}}")["a"]["b"].list()[0].int() }
        assertEquals("expected a whole number as it.a.b[0]; it is x", error.message)
    }

    @Test
    fun `the place of a member covers the comma behind it`() {
        val text = "{\"a\":1,\"digest\":\"x\",\"z\":{\"digest\":2}}"
        assertEquals("{\"a\":1,\"z\":{\"digest\":2}}", text.removeRange(checkNotNull(Json.memberSpan(text, "digest"))))
    }
}
