package io.github.llmtflite.apk

import io.github.llmtflite.app.R
import java.nio.file.Path
import javax.xml.parsers.DocumentBuilderFactory
import javax.xml.transform.TransformerFactory
import javax.xml.transform.dom.DOMSource
import javax.xml.transform.stream.StreamResult
import kotlin.io.path.absolutePathString
import kotlin.io.path.writeLines

private const val ANDROID = "http://schemas.android.com/apk/res/android"

/** The number of every string in the code, which was compiled before the resources. */
val stringNumbers: Map<String, Int> = R.string::class.java.fields.filter { it.type == Int::class.java }.associate { it.name to it.getInt(null) }

/** Returns an archive with the manifest, the compiled resources and their table. */
internal fun linkResources(inputs: Inputs, versions: Versions, work: Path): Path {
    val compiled = work.resolve("resources.zip")
    val linked = work.resolve("resources.apk")
    val numbers = work.resolve("numbers.txt")
    numbers.writeLines(stringNumbers.map { (name, number) -> "${versions.applicationId}:string/$name = 0x${number.toString(16)}" })
    val sources = inputs.project.resolve("app/src/main")
    aapt2(inputs.aapt2, "compile", "--dir", sources.resolve("res").absolutePathString(), "-o", compiled.absolutePathString())
    val options = listOf(
        "-I" to inputs.framework,
        "--manifest" to manifest(sources.resolve("AndroidManifest.xml"), versions, work.resolve("AndroidManifest.xml")),
        "--stable-ids" to numbers,
        "--min-sdk-version" to versions.minSdk,
        "--target-sdk-version" to versions.targetSdk,
        "--version-code" to versions.code,
        "--version-name" to versions.name,
        "-o" to linked,
    )
    aapt2(inputs.aapt2, "link", *options.flatMap { (name, value) -> listOf(name, value.toString()) }.toTypedArray(), compiled.absolutePathString())
    return linked
}

/** What aapt2 printed. */
fun aapt2(program: Path, vararg arguments: String): String {
    val process = ProcessBuilder(program.absolutePathString(), *arguments).redirectErrorStream(true).start()
    val said = process.inputStream.bufferedReader().readText()
    if (process.waitFor() != 0) throw BuildFailure("aapt2 ${arguments.first()}: $said")
    return said
}

/** Adds what the Android Gradle plugin adds: the package, and where native libraries are. */
private fun manifest(source: Path, versions: Versions, target: Path): Path {
    val factory = DocumentBuilderFactory.newInstance().apply { isNamespaceAware = true }
    val document = factory.newDocumentBuilder().parse(source.toFile())
    document.documentElement.setAttribute("package", versions.applicationId)
    document.getElementsByTagName("application").item(0).attributes.setNamedItemNS(
        document.createAttributeNS(ANDROID, "android:extractNativeLibs").apply { value = "false" },
    )
    TransformerFactory.newInstance().newTransformer().transform(DOMSource(document), StreamResult(target.toFile()))
    return target
}
