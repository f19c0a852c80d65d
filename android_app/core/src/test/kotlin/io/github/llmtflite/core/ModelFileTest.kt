package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNotNull
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.DynamicTest
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.TestFactory
import org.junit.jupiter.api.io.TempDir
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.Path
import java.nio.file.StandardOpenOption
import kotlin.random.Random

class ModelFileTest {
    @TempDir
    lateinit var folder: Path

    @TestFactory
    fun `every file that Python wrote opens`(): List<DynamicTest> = Golden.content["models"].list().map { model ->
        val name = model["file"].text()
        DynamicTest.dynamicTest(name) {
            val file = ModelFile.open(Golden.folder.resolve(name))
            assertEquals(if ("generate" in name || "sampled" in name) "generate" else "prefill_decode", file.info.layout)
            assertEquals(Files.size(Golden.folder.resolve(name)), file.info.sizeBytes)
            assertTrue(file.info.parameters > 0)
            assertTrue(file.model.isDirect)
            assertEquals("TFL3", String(ByteArray(4) { file.model.get(4 + it) }))
            assertNotNull(file.tokenizerBytes())
        }
    }

    @Test
    fun `a file says what it is without being read whole`() {
        val info = FileChannel.open(Golden.folder.resolve(TFLITE), StandardOpenOption.READ).use { ModelFile.describe(it) }
        assertEquals("GPT2CausalLM", info.name)
        assertEquals("dynamic_range", info.quantizer)
        assertEquals(64, info.contextLength)
        assertEquals(null, info.fixedChoice)
    }

    @Test
    fun `a file of the layout generate says how it chooses tokens`() {
        assertEquals(TokenChoice(0.7f, 5), ModelFile.open(Golden.folder.resolve("gpt2_sampled.tflite")).info.fixedChoice)
        assertEquals(TokenChoice(0f, 0), ModelFile.open(Golden.folder.resolve("gpt2_generate.tflite")).info.fixedChoice)
    }

    @Test
    fun `a file may stand inside another one`() {
        val bytes = Golden.bytes(TFLITE)
        val path = written(ByteArray(4096) + bytes + ByteArray(7))
        FileChannel.open(path, StandardOpenOption.READ).use {
            val file = ModelFile.open("asset", it, 4096, bytes.size.toLong())
            assertEquals(bytes.size.toLong(), file.info.sizeBytes)
        }
    }

    @TestFactory
    fun `a file that was cut is refused wherever it ends`(): List<DynamicTest> = CONTAINERS.map { name ->
        DynamicTest.dynamicTest(name) {
            val bytes = Golden.bytes(name)
            val cuts = List(100) { bytes.size * it / 100 } + (bytes.size - 1) + (0..64)
            for (cut in cuts) {
                val error = failure(bytes.copyOf(cut))
                if (cut >= 64) assertTrue(error is ModelError.Truncated, "cut at $cut: $error")
            }
        }
    }

    @TestFactory
    fun `a byte that was changed is noticed wherever it stands`(): List<DynamicTest> = CONTAINERS.map { name ->
        DynamicTest.dynamicTest(name) {
            val bytes = Golden.bytes(name)
            val random = Random(1)
            repeat(100) {
                val at = random.nextInt(bytes.size)
                val changed = bytes.clone()
                changed[at] = (changed[at].toInt() xor (1 shl random.nextInt(8))).toByte()
                failure(changed)
            }
        }
    }

    @Test
    fun `changed weights are a wrong digest`() {
        val bytes = Golden.bytes(TFLITE)
        bytes[bytes.size / 2] = (bytes[bytes.size / 2] + 1).toByte()
        val error = failure(bytes)
        assertTrue(error is ModelError.WrongDigest, "$error")
        assertTrue("\"model\"" in error.message, error.message)
    }

    @Test
    fun `a changed description is a wrong digest`() {
        val error = failure(replaced(Golden.bytes(TFLITE), "\"context_length\":64", "\"context_length\":65"))
        assertTrue(error is ModelError.WrongDigest, "$error")
    }

    @Test
    fun `bytes behind the end are damage`() {
        assertTrue(failure(Golden.bytes(LITERTLM) + ByteArray(5)) is ModelError.Damaged)
    }

    @Test
    fun `a file of a later format is refused as such`() {
        val bytes = replaced(Golden.bytes(TFLITE), "\"format_version\":\"1.0\"", "\"format_version\":\"2.0\"")
        val text = String(bytes, Charsets.ISO_8859_1)
        val manifest = text.substring(text.lastIndexOf("{\"cache\":["))
        val span = checkNotNull(Json.memberSpan(manifest, "digest"))
        val digest = sha256().digest(manifest.removeRange(span).toByteArray(Charsets.ISO_8859_1)).hex()
        val signed = text.replace(Regex("\"digest\":\"[0-9a-f]{64}\",\"format_version\":\"2.0\""), "\"digest\":\"$digest\",\"format_version\":\"2.0\"")
        val error = failure(signed.toByteArray(Charsets.ISO_8859_1))
        assertTrue(error is ModelError.NewerFormat, "$error")
        assertTrue("2.0" in error.message, error.message)
    }

    @TestFactory
    fun `a file of another program is refused as such`(): List<DynamicTest> = listOf(
        TFLITE to ("llm_tflite.manifest" to "xlm_tflite.manifest"),
        LITERTLM to ("llm_tflite\u0000" to "xlm_tflite\u0000"),
    ).map { (name, change) ->
        DynamicTest.dynamicTest(name) {
            val error = failure(replaced(Golden.bytes(name), change.first, change.second))
            assertTrue(error is ModelError.NoManifest, "$error")
        }
    }

    @TestFactory
    fun `what is not a model is refused as such`(): List<DynamicTest> = listOf(
        "nothing" to ByteArray(0),
        "one byte" to ByteArray(1),
        "text" to "Once upon a time there was a model.".toByteArray(),
        "an archive" to "PK\u0003\u0004 and so on".toByteArray(),
        "zeros" to ByteArray(100_000),
    ).map { (name, bytes) ->
        DynamicTest.dynamicTest(name) { assertTrue(failure(bytes) is ModelError.NotAModel) }
    }

    /** Opens bytes that must not open, and checks what every message has to be. */
    private fun failure(bytes: ByteArray): ModelError {
        val path = written(bytes)
        val error = assertThrows(ModelError::class.java) { ModelFile.open(path) }
        assertTrue(error.message.endsWith('.'), error.message)
        assertFalse(error.message.first().isLowerCase(), error.message)
        return error
    }

    private fun written(bytes: ByteArray): Path = Files.write(folder.resolve("model"), bytes)

    private fun replaced(bytes: ByteArray, old: String, new: String): ByteArray {
        val text = String(bytes, Charsets.ISO_8859_1)
        assertTrue(old in text && old.length == new.length)
        return text.replace(old, new).toByteArray(Charsets.ISO_8859_1)
    }

    private companion object {
        const val TFLITE = "gpt2.tflite"
        const val LITERTLM = "gpt2_words.litertlm"
        val CONTAINERS = listOf(TFLITE, LITERTLM)
    }
}
