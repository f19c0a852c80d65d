package io.github.llmtflite.app

import android.content.ContentResolver
import android.net.Uri
import android.provider.OpenableColumns
import io.github.llmtflite.core.ImportProgress
import io.github.llmtflite.core.ModelChoice
import io.github.llmtflite.core.ModelStore
import java.io.IOException
import java.io.InputStream

/** A file that the user chose in the system's picker. */
class DocumentFile(private val resolver: ContentResolver, private val uri: Uri) {
    /** What the other app calls it, and its bytes where that app knows them. */
    private class Facts(val name: String, val size: Long?)

    suspend fun importInto(store: ModelStore, report: suspend (ImportProgress) -> Unit): ModelChoice {
        val facts = ofOtherApp { facts() } ?: Facts(uri.lastPathSegment ?: DEFAULT_NAME, null)
        val input: InputStream = ofOtherApp { resolver.openInputStream(uri) }
            ?: throw IOException("The app that has the file does not give it. Copy it to the device and choose it there.")
        return input.use { store.import(facts.name, it, facts.size) { copied -> report(ImportProgress(facts.name, copied, facts.size)) } }
    }

    private fun facts(): Facts? {
        val columns = arrayOf(OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE)
        return resolver.query(uri, columns, null, null, null)?.use { cursor ->
            if (!cursor.moveToFirst()) return@use null
            val name = cursor.getColumnIndex(OpenableColumns.DISPLAY_NAME).takeIf { it >= 0 }?.let(cursor::getString)
            val size = cursor.getColumnIndex(OpenableColumns.SIZE).takeIf { it >= 0 && !cursor.isNull(it) }?.let(cursor::getLong)
            Facts(name ?: DEFAULT_NAME, size)
        }
    }

    /** Another app's code may throw what it likes. */
    private fun <T> ofOtherApp(ask: () -> T?): T? = try {
        ask()
    } catch (e: RuntimeException) {
        throw IOException("The app that has the file failed: $e. Choose the file again, or copy it to the device.", e)
    }

    private companion object {
        const val DEFAULT_NAME = "model"
    }
}
