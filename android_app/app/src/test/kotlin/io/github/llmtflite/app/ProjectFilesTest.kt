package io.github.llmtflite.app

import java.io.File
import javax.xml.parsers.DocumentBuilderFactory
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.w3c.dom.Element
import org.w3c.dom.NodeList

/** What the Gradle build would have to notice, and CI cannot run. */
class ProjectFilesTest {
    private val root = File(checkNotNull(System.getProperty("llm_tflite.android_app")) { "run the tests by Maven" })
    private val manifest = xml("app/src/main/AndroidManifest.xml")
    private val catalog = File(root, "gradle/libs.versions.toml").readText()

    @Test
    fun `the app asks for no permission, has no backup and exports only what the launcher starts`() {
        assertEquals(emptyList<Element>(), manifest.all("uses-permission") + manifest.all("uses-permission-sdk-23"))
        assertEquals("false", manifest.all("application").single().getAttribute("android:allowBackup"))
        val components = listOf("activity", "activity-alias", "service", "receiver", "provider").flatMap { manifest.all(it) }
        val exported = components.filter { it.getAttribute("android:exported") != "false" }
        assertEquals(listOf("io.github.llmtflite.app.MainActivity"), exported.map { it.getAttribute("android:name") })
        assertEquals("android.intent.category.LAUNCHER", manifest.all("category").single().getAttribute("android:name"))
    }

    @Test
    fun `every string is there in Chinese, with the same places to fill`() {
        val english = strings("values")
        val chinese = strings("values-zh")
        assertEquals(english.keys, chinese.keys)
        for ((name, text) in english) assertEquals(places(text), places(chinese.getValue(name)), name)
    }

    @Test
    fun `every place to fill can be filled`() {
        for (folder in listOf("values", "values-zh")) {
            for ((name, text) in strings(folder)) {
                val values: List<Any> = places(text).map { if (it.endsWith("d")) 3 else if (it.endsWith("f")) 0.5f else "x" }
                assertFalse("%" in String.format(text, *values.toTypedArray<Any>()), "$folder/$name")
            }
        }
    }

    @Test
    fun `every string is used`() {
        val sources = File(root, "app/src/main").walk().filter { it.extension == "kt" || it.name == "AndroidManifest.xml" }
        val code = sources.joinToString("\n") { it.readText() }
        assertEquals(emptyList<String>(), strings("values").keys.filter { name -> !Regex("(R\\.string\\.|@string/)$name\\b").containsMatchIn(code) })
    }

    @Test
    fun `Gradle and Maven build with the same versions`() {
        val pom = File(root, "ci/pom.xml").readText()
        val properties = listOf("kotlin", "coroutines", "jna", "json", "junit").associateWith { Regex("<$it.version>(.*)</").find(pom)?.groupValues?.get(1) }
        assertEquals(properties, properties.keys.associateWith(::version))
        assertEquals("17", Regex("<kotlin.compiler.jvmTarget>(.*)</").find(pom)?.groupValues?.get(1))
        assertEquals("17", version("java"))
        // Android 16 is API level 36.
        assertTrue("<android.version>16-" in pom)
        assertEquals("36", version("compileSdk"))
        assertEquals(version("agp"), Regex("<apksig.version>(.*)</").find(pom)?.groupValues?.get(1))
    }

    @Test
    fun `every alias that a build file uses is in the catalog`() {
        val builds = root.walk().filter { it.name == "build.gradle.kts" }.toList()
        assertEquals(4, builds.size, "$builds")
        val defined = Regex("^([\\w-]+) *=", RegexOption.MULTILINE).findAll(catalog).map { it.groupValues[1].replace('-', '.') }.toSet()
        for (build in builds) {
            val used = Regex("libs\\.(?:plugins\\.|versions\\.)?([\\w.]+?)(?=\\.get\\(\\)|\\))").findAll(build.readText()).map { it.groupValues[1] }
            assertEquals(emptyList<String>(), used.filter { it !in defined }.toList(), "$build")
        }
    }

    @Test
    fun `models are stored in the APK as they are, and so can be mapped`() {
        val build = File(root, "app/build.gradle.kts").readText()
        assertTrue(Regex("""noCompress \+= listOf\("tflite", "litertlm"\)""").containsMatchIn(build))
    }

    private fun version(name: String) = Regex("^$name *= *\"(.*)\"", RegexOption.MULTILINE).find(catalog)?.groupValues?.get(1)

    private fun strings(folder: String): Map<String, String> =
        xml("app/src/main/res/$folder/strings.xml").all("string").associate { it.getAttribute("name") to it.textContent }

    private fun places(text: String): List<String> = Regex("%\\d+\\$[.\\d]*[a-z]").findAll(text).map { it.value }.sorted().toList()

    private fun xml(path: String): Element = DocumentBuilderFactory.newInstance().newDocumentBuilder().parse(File(root, path)).documentElement

    private fun Element.all(tag: String): List<Element> = getElementsByTagName(tag).elements()

    private fun NodeList.elements(): List<Element> = (0 until length).map { item(it) as Element }
}
