package io.github.llmtflite.apk

import com.android.tools.r8.CompilationFailedException
import com.android.tools.r8.CompilationMode
import com.android.tools.r8.D8
import com.android.tools.r8.D8Command
import com.android.tools.r8.Diagnostic
import com.android.tools.r8.DiagnosticsHandler
import com.android.tools.r8.JdkClassFileProvider
import com.android.tools.r8.OutputMode
import java.nio.file.Files
import java.nio.file.Path
import kotlin.io.path.listDirectoryEntries

/** Returns the code of [Inputs.classes] in Android's format. */
internal fun dex(inputs: Inputs, versions: Versions, work: Path): List<Path> {
    val folder = Files.createDirectories(work.resolve("dex"))
    val said = Collector()
    val command = D8Command.builder(said)
        .addProgramFiles(inputs.classes)
        // Robolectric's jar has Android's packages; those of Java come from the JDK.
        .addLibraryFiles(inputs.framework)
        .addLibraryResourceProvider(JdkClassFileProvider.fromJdkHome(Path.of(System.getProperty("java.home"))))
        .setMinApiLevel(versions.minSdk)
        .setMode(CompilationMode.RELEASE)
        .setOutput(folder, OutputMode.DexIndexed)
    try {
        D8.run(command.build())
    } catch (e: CompilationFailedException) {
        throw BuildFailure("D8: ${said.all.ifEmpty { listOf(e.message) }.joinToString("\n")}")
    }
    if (said.all.isNotEmpty()) throw BuildFailure("D8: ${said.all.joinToString("\n")}")
    return folder.listDirectoryEntries("*.dex").sorted()
}

private class Collector : DiagnosticsHandler {
    val all = mutableListOf<String>()

    override fun warning(warning: Diagnostic) = keep(warning)

    override fun error(error: Diagnostic) = keep(error)

    private fun keep(diagnostic: Diagnostic) {
        all += "${diagnostic.origin}: ${diagnostic.diagnosticMessage}"
    }
}
