package io.github.llmtflite.apk

import java.io.File
import java.nio.file.Files
import java.nio.file.Path
import java.util.zip.CRC32
import java.util.zip.ZipEntry
import java.util.zip.ZipFile
import java.util.zip.ZipOutputStream
import kotlin.io.path.absolutePathString
import kotlin.io.path.extension
import kotlin.io.path.listDirectoryEntries
import kotlin.io.path.name
import kotlin.io.path.readBytes
import kotlin.system.exitProcess

/**
 * Assembles the app as the Android Gradle plugin would, with the same tools: aapt2, D8, apksig.
 *
 * Arguments: `name=value` for every property of [Inputs], where several paths are separated as in a class path.
 */
fun main(arguments: Array<String>) {
    val values = arguments.associate { it.substringBefore('=') to it.substringAfter('=') }
    val path = { name: String -> Path.of(requireNotNull(values[name]) { "$name=PATH is missing" }) }
    val inputs = Inputs(
        project = path("project"),
        aapt2 = path("aapt2"),
        framework = path("framework"),
        classes = values.getValue("classes").split(File.pathSeparator).map(Path::of),
        native = path("native"),
        model = path("model"),
    )
    try {
        assemble(inputs, path("output"))
    } catch (e: BuildFailure) {
        System.err.println(e.message)
        exitProcess(1)
    }
}

/**
 * @property project the folder `android_app`.
 * @property framework a jar with Android's own resources and classes.
 * @property classes jars with everything that the app runs.
 * @property native a folder with one folder of libraries for each ABI.
 * @property model what becomes the app's default model.
 */
class Inputs(
    val project: Path,
    val aapt2: Path,
    val framework: Path,
    val classes: List<Path>,
    val native: Path,
    val model: Path,
)

/** A tool refused its input. */
class BuildFailure(message: String) : Exception(message)

/** Writes a signed APK; intermediate files stay in [output]'s folder. */
fun assemble(inputs: Inputs, output: Path) {
    val work = Files.createDirectories(output.resolveSibling("apk"))
    val versions = Versions.of(inputs.project)
    val resources = linkResources(inputs, versions, work)
    val dex = dex(inputs, versions, work)
    val unsigned = work.resolve("unsigned.apk")
    ZipOutputStream(Files.newOutputStream(unsigned)).use { apk ->
        ZipFile(resources.toFile()).use { from ->
            for (entry in from.entries()) apk.add(entry.name, from.getInputStream(entry).readBytes(), stored = entry.method == ZipEntry.STORED)
        }
        for (file in dex) apk.add(file.name, file.readBytes(), stored = false)
        // Stored and aligned, libraries are mapped from the APK instead of unpacked: extractNativeLibs="false".
        for (abi in inputs.native.listDirectoryEntries().sorted()) {
            for (library in abi.listDirectoryEntries("*.so").sorted()) apk.add("lib/${abi.name}/${library.name}", library.readBytes(), stored = true)
        }
        apk.add("assets/autocomplete.${inputs.model.extension}", inputs.model.readBytes(), stored = true)
    }
    sign(unsigned, output, versions, work)
    println("${output.absolutePathString()}: ${Files.size(output)} bytes")
}

private fun ZipOutputStream.add(name: String, bytes: ByteArray, stored: Boolean) {
    val entry = ZipEntry(name)
    entry.time = 0
    if (stored) {
        entry.method = ZipEntry.STORED
        entry.size = bytes.size.toLong()
        entry.crc = CRC32().apply { update(bytes) }.value
    }
    putNextEntry(entry)
    write(bytes)
    closeEntry()
}
