package io.github.llmtflite.core

import java.io.ByteArrayInputStream
import java.io.ByteArrayOutputStream
import java.io.DataInputStream
import java.io.DataOutputStream
import java.io.IOException

/** The part of a state that outlives the process, as bytes for the system to keep. */
object SavedState {
    private const val VERSION = 1

    /** Texts, marks and settings; a suggestion that is being written is kept as far as it came. */
    fun write(state: AutocompleteState): ByteArray {
        val bytes = ByteArrayOutputStream()
        DataOutputStream(bytes).use { data ->
            data.writeInt(VERSION)
            data.writeText(state.text)
            data.writeText(state.suggestion)
            data.writeInt(state.accepted.size)
            for (span in state.accepted) {
                data.writeInt(span.start)
                data.writeInt(span.end)
            }
            data.writeInt(state.seen.size)
            for (seen in state.seen) data.writeText(seen)
            data.writeInt(state.request)
            data.writeInt(state.attempts)
            data.writeInt(state.windowUnit.ordinal)
            data.writeInt(state.windowSize ?: 0)
            data.writeFloat(state.choice.temperature)
            data.writeInt(state.choice.topK)
            data.writeLong(state.seed)
            data.writeText(state.chosen ?: "")
        }
        return bytes.toByteArray()
    }

    /** The state that [write] was given, with its model still to be opened; null for bytes of another version. */
    fun read(bytes: ByteArray): AutocompleteState? = try {
        DataInputStream(ByteArrayInputStream(bytes)).use { if (it.readInt() == VERSION) read(it) else null }
    } catch (_: IOException) {
        null
    } catch (_: IllegalArgumentException) {
        null
    }

    private fun read(data: DataInputStream): AutocompleteState {
        val text = data.readText()
        val suggestion = data.readText()
        val accepted = List(data.readCount(2 * Int.SIZE_BYTES)) { TextSpan(data.readInt(), data.readInt()) }
        require(accepted.all { it.end <= text.length }) { "a mark was expected to lie in the text" }
        val seen = LinkedHashSet(List(data.readCount(Int.SIZE_BYTES)) { data.readText() })
        if (suggestion.isNotEmpty()) seen.add(suggestion)
        val request = data.readInt()
        val attempts = data.readInt()
        val unit = data.readInt()
        require(unit in WindowUnit.entries.indices) { "a window was expected to count words or tokens" }
        return AutocompleteState(
            text = text,
            accepted = accepted,
            suggestion = suggestion,
            seen = seen,
            request = request,
            attempts = attempts,
            windowUnit = WindowUnit.entries[unit],
            windowSize = data.readInt().takeIf { it > 0 },
            choice = TokenChoice(data.readFloat(), data.readInt()),
            seed = data.readLong(),
            chosen = data.readText().ifEmpty { null },
        )
    }

    private fun DataOutputStream.writeText(text: String) {
        writeInt(text.length)
        writeChars(text)
    }

    private fun DataInputStream.readText(): String = String(CharArray(readCount(Char.SIZE_BYTES)) { readChar() })

    /** How many items of [itemBytes] follow; never more than there are bytes for. */
    private fun DataInputStream.readCount(itemBytes: Int): Int {
        val count = readInt()
        require(count in 0..available() / itemBytes) { "a count was expected to fit what is left" }
        return count
    }
}
