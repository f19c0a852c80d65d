package io.github.llmtflite.core

import java.nio.file.Files
import java.nio.file.Path

/** What `ci/golden.py` wrote: models, tokenizers and what Python says of them. */
internal object Golden {
    val folder: Path = Path.of(checkNotNull(System.getProperty("llm_tflite.android_app")) { "run the tests by Maven" })
        .resolve("ci/golden")

    val content: Json by lazy {
        val file = folder.resolve("golden.json")
        check(Files.isRegularFile(file)) { "$file is missing: `make android` writes it" }
        Json.parse(Files.readString(file))
    }

    fun bytes(name: String): ByteArray = Files.readAllBytes(folder.resolve(name))
}
