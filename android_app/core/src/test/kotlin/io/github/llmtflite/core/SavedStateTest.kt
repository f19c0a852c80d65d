package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Test

class SavedStateTest {
    private val state = AutocompleteState(
        text = "Hi \uD83D\uDE00 \uD83D there",
        accepted = listOf(TextSpan(0, 2), TextSpan(3, 5)),
        suggestion = " you",
        seen = linkedSetOf(" all", " you"),
        request = 7,
        attempts = 2,
        windowUnit = WindowUnit.TOKENS,
        windowSize = 33,
        choice = TokenChoice(0.25f, 9),
        seed = -5,
        chosen = "model.tflite",
    )

    @Test
    fun `what the user made comes back`() {
        assertEquals(state, SavedState.read(SavedState.write(state)))
        assertEquals(AutocompleteState(), SavedState.read(SavedState.write(AutocompleteState())))
    }

    @Test
    fun `a running answer comes back as far as it came, with the model still to be opened`() {
        val running = state.copy(phase = Phase.GENERATING, seen = emptySet(), opened = null, message = Message.Copied)
        val read = checkNotNull(SavedState.read(SavedState.write(running)))
        assertEquals(running.copy(phase = Phase.NO_MODEL, seen = setOf(" you"), message = null), read)
    }

    @Test
    fun `a text of a hundred thousand characters is kept`() {
        val long = AutocompleteState(text = "é".repeat(100_000))
        assertEquals(long, SavedState.read(SavedState.write(long)))
    }

    @Test
    fun `bytes that are cut or of another version are no state`() {
        val bytes = SavedState.write(state)
        for (size in bytes.indices) assertNull(SavedState.read(bytes.copyOf(size)))
        assertNull(SavedState.read(bytes.also { it[3] = 2 }))
    }

    @Test
    fun `changed bytes give null or a state, never an error`() {
        val bytes = SavedState.write(state)
        for (index in bytes.indices) for (value in listOf(-1, 0, 127)) {
            SavedState.read(bytes.copyOf().also { it[index] = value.toByte() })
        }
    }
}
