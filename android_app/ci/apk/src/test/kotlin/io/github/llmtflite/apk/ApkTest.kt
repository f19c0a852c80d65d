package io.github.llmtflite.apk

import com.android.apksig.ApkVerifier
import io.github.llmtflite.core.ModelFile
import io.github.llmtflite.core.Parameters
import io.github.llmtflite.core.openEngine
import io.github.llmtflite.jvm.JnaRuntime
import java.nio.channels.FileChannel
import java.nio.file.Files
import java.nio.file.Path
import java.util.jar.JarFile
import java.util.zip.ZipFile
import kotlinx.coroutines.flow.toList
import kotlinx.coroutines.runBlocking
import org.json.JSONObject
import org.junit.jupiter.api.Assertions.assertArrayEquals
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test

/** The APK that [assemble] made of the whole project, with a small Gemma as its model. */
class ApkTest {
    private val project = path("llm_tflite.android_app")
    private val apk = path("llm_tflite.apk")
    private val aapt2 = path("llm_tflite.aapt2")
    private val versions = Versions.of(project)
    private val golden = project.resolve("ci/golden")
    private val entries = entries(apk).associateBy(Entry::name)
    private val badging = aapt2(aapt2, "dump", "badging", "$apk").lines()

    @Test
    fun `the signature holds for every Android version that the app is for`() {
        val result = ApkVerifier.Builder(apk.toFile()).setMinCheckedPlatformVersion(versions.minSdk).build().verify()
        assertEquals(emptyList<Any>(), result.allErrors)
        assertEquals(emptyList<Any>(), result.warnings)
        assertTrue(result.isVerified && result.isVerifiedUsingV2Scheme)
        assertEquals("CN=Android Debug", result.signerCertificates.single().subjectX500Principal.name)
    }

    @Test
    fun `an APK that was changed after it was signed is refused`() {
        val model = entries.getValue(MODEL)
        val changed = Files.createTempFile("changed", ".apk")
        try {
            val bytes = Files.readAllBytes(apk)
            bytes[(model.offset + model.size / 2).toInt()]++
            Files.write(changed, bytes)
            assertTrue(!ApkVerifier.Builder(changed.toFile()).setMinCheckedPlatformVersion(versions.minSdk).build().verify().isVerified)
        } finally {
            Files.delete(changed)
        }
    }

    @Test
    fun `it is the app of the Gradle project, for its versions of Android`() {
        val described = badging.first()
        assertTrue(described.startsWith("package: name='${versions.applicationId}' versionCode='${versions.code}' versionName='${versions.name}'"), described)
        assertTrue("minSdkVersion:'${versions.minSdk}'" in badging || "sdkVersion:'${versions.minSdk}'" in badging, "$badging")
        assertTrue("targetSdkVersion:'${versions.targetSdk}'" in badging, "$badging")
        assertEquals(listOf("io.github.llmtflite.app.MainActivity"), launchable())
        assertEquals(listOf("locales: '--_--' 'zh'"), badging.filter { it.startsWith("locales:") })
    }

    @Test
    fun `it has no permission, the network's neither, and cannot be debugged`() {
        assertEquals("package: ${versions.applicationId}", aapt2(aapt2, "dump", "permissions", "$apk").trim())
        assertEquals(emptyList<String>(), badging.filter { "permission" in it || "debuggable" in it })
    }

    @Test
    fun `the model is stored as it is, and can be mapped`() {
        val model = entries.getValue(MODEL)
        assertTrue(model.stored)
        val original = Files.readAllBytes(golden.resolve(MODEL_FILE))
        assertArrayEquals(original, bytes(MODEL))
        assertEquals(original.size.toLong(), model.size)
    }

    @Test
    fun `what is stored is aligned, native libraries to pages of 16 KiB`() {
        val (libraries, others) = entries.values.filter(Entry::stored).partition { it.name.endsWith(".so") }
        assertEquals(emptyList<String>(), others.filter { it.offset % 4 != 0L }.map(Entry::name))
        assertEquals(emptyList<String>(), libraries.filter { it.offset % PAGE_BYTES != 0L }.map(Entry::name))
        assertTrue(entries.getValue("resources.arsc").stored)
        val abis = listOf("arm64-v8a", "armeabi-v7a", "x86", "x86_64")
        assertEquals(abis, libraries.map { it.name.removePrefix("lib/").substringBefore('/') }.sorted())
        assertEquals(abis.map { "lib/$it/libtensorflowlite_jni.so" }, entries.keys.filter { it.startsWith("lib/") }.sorted())
    }

    @Test
    fun `every string has the number that the code knows`() {
        val resources = aapt2(aapt2, "dump", "resources", "$apk")
        val found = Regex("resource 0x([0-9a-f]+) string/(\\w+)").findAll(resources).associate { it.groupValues[2] to it.groupValues[1].toInt(16) }
        assertEquals(stringNumbers, found)
        assertTrue(found.size > 50)
    }

    @Test
    fun `every class of the app and its core is there, and the runtime's that it calls`() {
        val dex = entries.keys.filter { it.endsWith(".dex") }.flatMap { classesOf(bytes(it)) }.toSet()
        for (module in listOf("core", "app")) {
            val jar = project.resolve("ci/$module/target/$module-${versions.name}.jar")
            val classes = JarFile(jar.toFile()).use { file -> file.entries().toList().map { it.name } }.filter { it.endsWith(".class") }
            assertEquals(emptyList<String>(), classes.map { it.removeSuffix(".class") }.filter { it !in dex })
        }
        assertTrue(launchable().single().replace('.', '/') in dex)
        assertTrue("org/tensorflow/lite/NativeInterpreterWrapper" in dex)
    }

    @Test
    fun `the model answers from inside the APK as it does in Python`() {
        val models = JSONObject(Files.readString(golden.resolve("golden.json"))).getJSONArray("models")
        val model = (0 until models.length()).map(models::getJSONObject).single { it.getString("file") == MODEL_FILE }
        val case = model.getJSONArray("cases").getJSONObject(0)
        val place = entries.getValue(MODEL)
        val file = FileChannel.open(apk).use { ModelFile.open(MODEL, it, place.offset, place.size) }
        val parameters = Parameters(
            maxNewTokens = case.getInt("max_new_tokens"),
            temperature = case.getDouble("temperature").toFloat(),
            topK = case.getInt("top_k"),
            topP = case.getDouble("top_p").toFloat(),
            seed = if (case.isNull("seed")) null else case.getLong("seed"),
        )
        val pieces = file.openEngine(JnaRuntime(), 1).use { engine -> runBlocking { engine.stream(case.getString("prompt"), parameters).toList() } }
        assertEquals(case.getString("text"), pieces.joinToString("") { it.text })
        assertTrue(pieces.sumOf { it.tokens } > 3)
    }

    private fun launchable() = badging.filter { it.startsWith("launchable-activity:") }.map { it.substringAfter("name='").substringBefore('\'') }

    private fun bytes(name: String): ByteArray = ZipFile(apk.toFile()).use { file -> file.getInputStream(file.getEntry(name)).readBytes() }

    private fun path(property: String): Path = Path.of(checkNotNull(System.getProperty(property)) { "run the tests by Maven" })

    private companion object {
        const val MODEL_FILE = "gemma.tflite"
        const val MODEL = "assets/autocomplete.tflite"
    }
}
