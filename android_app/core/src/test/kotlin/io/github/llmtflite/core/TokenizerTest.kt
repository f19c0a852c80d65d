package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicContainer
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory

class TokenizerTest {
    @TestFactory
    fun `tokens and their bytes are Python's`(): List<DynamicContainer> =
        Golden.content["tokenizers"].list().map { file ->
            val name = file["file"].text()
            val tokenizer by lazy { Tokenizer.load(file["kind"].text(), Golden.bytes(name)) }
            val tests = file["cases"].list().mapIndexed { number, case ->
                val text = case["text"].text()
                DynamicTest.dynamicTest("text $number") {
                    val ids = case["ids"].list().map(Json::int)
                    assertEquals(ids, tokenizer.encode(text))
                    assertEquals(case["special_ids"].list().map(Json::int), tokenizer.encode(text, specialTokens = true))
                    assertEquals(case["bytes"].text(), ids.joinToString("") { tokenizer.tokenBytes(it).hex() })
                }
            }
            DynamicContainer.dynamicContainer(name, tests)
        }

    @Test
    fun `half a surrogate pair is refused`() {
        val error = assertThrows(ModelError.UnsuitableText::class.java) { byteLevel().encode("ab\uD83D!") }
        assertEquals("The character at position 2 of the text is half of a surrogate pair.", error.message)
    }

    @Test
    fun `a long text without spaces takes no quadratic time`() {
        assertTrue(byteLevel().encode("th".repeat(50_000)).size == 50_000)
    }

    @Test
    fun `ids outside the vocabulary have no bytes`() {
        assertArrayEquals(ByteArray(0), byteLevel().tokenBytes(1_000_000))
    }

    @TestFactory
    fun `a form that is not read here is named`(): List<DynamicTest> = listOf(
        "\"model\":{\"type\":\"BPE\"" to "\"model\":{\"type\":\"Unigram\"" to "Unigram",
        "\"type\":\"Split\"" to "\"type\":\"Metaspace\"" to "Metaspace",
        "\"normalizer\":null" to "\"normalizer\":{\"type\":\"Lowercase\"}" to "Lowercase",
        "\"add_prefix_space\":false" to "\"add_prefix_space\":true" to "add_prefix_space",
        "\"byte_fallback\":false" to "\"byte_fallback\":true" to "byte_fallback",
    ).map { (change, name) ->
        DynamicTest.dynamicTest(name) {
            val text = JSON.replaceFirst(change.first, change.second)
            assertTrue(text != JSON)
            val error = assertThrows(ModelError.UnsupportedTokenizer::class.java) { Tokenizer.load("hf", text.toByteArray()) }
            assertTrue(name in error.message, error.message)
        }
    }

    @Test
    fun `damaged tokenizers are refused`() {
        assertThrows(ModelError.Damaged::class.java) { Tokenizer.load("hf", JSON.dropLast(1).toByteArray()) }
        assertThrows(ModelError.Damaged::class.java) { Tokenizer.load("sentencepiece", ByteArray(0)) }
        assertThrows(ModelError.Damaged::class.java) { Tokenizer.load("sentencepiece", byteArrayOf(10, 127, 1)) }
        assertThrows(ModelError.UnsupportedTokenizer::class.java) { Tokenizer.load("words", ByteArray(0)) }
    }

    private fun byteLevel(): Tokenizer = Tokenizer.load("hf", JSON.toByteArray())

    private companion object {
        val VOCABULARY = (0..255).map { ByteAlphabet.character(it.toByte()).toString() } + "th"
        val JSON = """
            {"added_tokens":[],"normalizer":null,"pre_tokenizer":{"type":"Sequence","pretokenizers":[
            {"type":"Split","pattern":{"String":"~"},"behavior":"Isolated","invert":false},
            {"type":"ByteLevel","add_prefix_space":false,"use_regex":false}]},"decoder":{"type":"ByteLevel"},
            "model":{"type":"BPE","byte_fallback":false,"vocab":{${
            VOCABULARY.mapIndexed { i, piece -> "\"${piece.replace("\\", "\\\\").replace("\"", "\\\"")}\":$i" }.joinToString(",")
        }},"merges":["t h"]}}
        """.trimIndent()
    }
}
