package io.github.llmtflite.apk

import java.nio.file.Path
import kotlin.io.path.readText

/** What the Gradle project says about the app. */
class Versions(val applicationId: String, val minSdk: Int, val targetSdk: Int, val code: Int, val name: String) {
    companion object {
        fun of(project: Path): Versions {
            val build = project.resolve("app/build.gradle.kts").readText()
            val catalog = project.resolve("gradle/libs.versions.toml").readText()
            fun find(text: String, pattern: String): String =
                Regex(pattern, RegexOption.MULTILINE).find(text)?.groupValues?.get(1) ?: throw BuildFailure("the Gradle project has no $pattern")
            return Versions(
                applicationId = find(build, """applicationId = "(.*)""""),
                minSdk = find(catalog, """^minSdk = "(.*)"""").toInt(),
                targetSdk = find(catalog, """^compileSdk = "(.*)"""").toInt(),
                code = find(build, """versionCode = (\d+)""").toInt(),
                name = find(build, """versionName = "(.*)""""),
            )
        }
    }
}
