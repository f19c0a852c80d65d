package io.github.llmtflite.core

import java.io.File
import java.io.IOException
import java.nio.file.Files
import java.nio.file.StandardCopyOption

/** The user's word list: [standard] until another one is saved, whole or not at all. */
class WordListFile(private val file: File, private val standard: () -> String = ProfanityFilter::standardList) {
    fun read(): String = if (file.exists()) file.readText() else standard()

    fun write(list: String) {
        val temporary = File.createTempFile("words", null, file.absoluteFile.parentFile)
        try {
            temporary.writeText(list)
            Files.move(temporary.toPath(), file.toPath(), StandardCopyOption.REPLACE_EXISTING, StandardCopyOption.ATOMIC_MOVE)
        } finally {
            if (temporary.exists() && !temporary.delete()) throw IOException("$temporary cannot be deleted")
        }
    }
}
