package io.github.llmtflite.core

import java.io.ByteArrayInputStream
import java.io.File
import java.io.IOException
import java.io.InputStream
import java.nio.channels.FileChannel
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertInstanceOf
import org.junit.jupiter.api.Assertions.assertThrows
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource

class ModelStoreTest {
    @TempDir
    lateinit var folder: File

    private val noRuntime = RuntimePort { _, _ -> throw ModelError.RuntimeFailure("There is no runtime here.") }

    private fun store(vararg bundled: ModelSource) = ModelStore(folder, bundled.toList(), noRuntime, 1)

    private fun names() = folder.list().orEmpty().sorted()

    /** A model inside of another file, as an asset is inside of the APK. */
    private inner class Bundled(override val name: String, bytes: ByteArray) : ModelSource {
        private val apk = File(folder.parentFile, "package").apply { writeBytes(ByteArray(100) + bytes + ByteArray(7)) }
        private val size = bytes.size.toLong()

        override fun <T> read(read: (FileChannel, Long, Long) -> T): T =
            FileChannel.open(apk.toPath()).use { read(it, 100, size) }
    }

    private suspend fun refusal(bytes: ByteArray): Throwable? =
        runCatching { store().import("model.tflite", ByteArrayInputStream(bytes), null) {} }.exceptionOrNull()

    @ParameterizedTest
    @ValueSource(strings = ["gpt2.tflite", "llama.litertlm"])
    fun `a model that is imported is listed with its facts`(name: String) = runTest {
        val bytes = Golden.bytes(name)
        val copied = ArrayList<Long>()
        val imported = store().import(name, ByteArrayInputStream(bytes), bytes.size.toLong()) { copied.add(it) }
        assertEquals(listOf(imported), store().list())
        assertEquals(name, imported.title)
        assertEquals(bytes.size.toLong(), imported.info.sizeBytes)
        assertEquals(bytes.size.toLong(), copied.last())
        assertEquals(listOf(name), names())
    }

    @Test
    fun `a file that is no model, cut or changed leaves nothing behind`() = runTest {
        val bytes = Golden.bytes("gpt2.tflite")
        assertInstanceOf(ModelError.NotAModel::class.java, refusal("not a model, but long enough".toByteArray()))
        assertInstanceOf(ModelError::class.java, refusal(ByteArray(0)))
        assertInstanceOf(ModelError::class.java, refusal(bytes.copyOf(bytes.size / 2)))
        val changed = bytes.copyOf().also { it[it.size / 2] = (it[it.size / 2] + 1).toByte() }
        assertInstanceOf(ModelError::class.java, refusal(changed))
        assertEquals(emptyList<String>(), names())
    }

    @Test
    fun `a source that fails in the middle leaves nothing behind, nor does a cancelled import`() = runTest {
        val failing = object : InputStream() {
            override fun read(): Int = throw IOException("The card was pulled out.")
        }
        assertEquals("The card was pulled out.", runCatching { store().import("m", failing, null) {} }.exceptionOrNull()?.message)
        val cancelled = runCatching {
            store().import("m", ByteArrayInputStream(Golden.bytes("gpt2.tflite")), null) { throw CancellationException("Enough.") }
        }
        assertInstanceOf(CancellationException::class.java, cancelled.exceptionOrNull())
        assertEquals(emptyList<String>(), names())
    }

    @Test
    fun `a refused file leaves the model of the same name as it was`() = runTest {
        store().import("model.tflite", ByteArrayInputStream(Golden.bytes("gpt2.tflite")), null) {}
        val before = store().list()
        refusal("something else, which is no model".toByteArray())
        assertEquals(before, store().list())
    }

    @Test
    fun `a file that has no room is refused before it is copied`() = runTest {
        val error = runCatching { store().import("m", ByteArrayInputStream(ByteArray(1)), Long.MAX_VALUE) {} }.exceptionOrNull()
        assertTrue("room" in checkNotNull(error?.message))
    }

    @Test
    fun `a bundled model is described and verified where it is`() {
        val store = store(Bundled("autocomplete.tflite", Golden.bytes("gpt2.tflite")))
        val choice = store.list().single()
        assertEquals("bundled:autocomplete.tflite", choice.id)
        assertEquals("There is no runtime here.", assertThrows(ModelError::class.java) { store.open(choice.id) }.message)
    }

    @Test
    fun `files that cannot be described are left out, unless there are no others`() = runTest {
        File(folder, "broken.tflite").writeText("broken, and long enough to be read")
        assertThrows(ModelError::class.java) { store().list() }
        store().import("m.tflite", ByteArrayInputStream(Golden.bytes("gpt2.tflite")), null) {}
        assertEquals(listOf("imported:m.tflite"), store().list().map { it.id })
    }

    @Test
    fun `a model that is gone is an error that says so`() {
        assertTrue("not on this device" in assertThrows(IOException::class.java) { store().open("imported:gone") }.message.orEmpty())
    }

    @Test
    fun `what an interrupted import left is deleted`() {
        File(folder, "import1.unfinished").writeText("half")
        store()
        assertEquals(emptyList<String>(), names())
    }

    @ParameterizedTest
    @CsvSource(
        "gpt2.tflite, gpt2.tflite", "../../etc/passwd, passwd", "C:\\models\\a.litertlm, a.litertlm", "'', model", "..., model",
        "'模型 1.tflite', '模型 1.tflite'", "a\u0000b:c.tflite, a_b_c.tflite", ".unfinished, unfinished", "a.unfinished, model",
    )
    fun `another app's name for a file stays inside of the folder`(name: String, expected: String) {
        assertEquals(expected, ModelStore.safeName(name))
    }
}
