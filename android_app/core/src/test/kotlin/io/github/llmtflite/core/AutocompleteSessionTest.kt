package io.github.llmtflite.core

import java.io.File
import java.io.IOException
import kotlinx.coroutines.CompletableDeferred
import kotlinx.coroutines.ExperimentalCoroutinesApi
import kotlinx.coroutines.awaitCancellation
import kotlinx.coroutines.delay
import kotlinx.coroutines.flow.first
import kotlinx.coroutines.test.StandardTestDispatcher
import kotlinx.coroutines.test.TestScope
import kotlinx.coroutines.test.advanceTimeBy
import kotlinx.coroutines.test.advanceUntilIdle
import kotlinx.coroutines.test.runCurrent
import kotlinx.coroutines.test.runTest
import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Test
import org.junit.jupiter.api.io.TempDir

@OptIn(ExperimentalCoroutinesApi::class)
class AutocompleteSessionTest {
    @TempDir
    lateinit var folder: File

    private val words get() = WordListFile(File(folder, "words.txt")) { "darn" }

    /** A library of engines by id; opening one that is missing is refused. */
    private class Library(private val engines: Map<String, TextEngine>) : ModelLibrary {
        val opened = ArrayList<String>()

        override fun list() = engines.map { (id, engine) -> ModelChoice(id, id, engine.info) }

        override fun open(id: String): TextEngine {
            opened.add(id)
            return engines[id] ?: throw ModelError.WrongDigest("The file $id was changed.")
        }
    }

    private fun TestScope.session(library: ModelLibrary, text: String = "Once"): AutocompleteSession {
        val dispatcher = StandardTestDispatcher(testScheduler)
        val session = AutocompleteSession(
            AutocompleteState(text = text),
            library,
            words,
            screen = dispatcher,
            work = dispatcher,
            nanoTime = { testScheduler.currentTime * 1_000_000 },
        )
        session.start()
        advanceUntilIdle()
        return session
    }

    private fun TestScope.session(engine: TextEngine, text: String = "Once") = session(Library(mapOf("a" to engine)), text)

    private fun writing(vararg pieces: String) = FakeEngine { _, _ ->
        delay(100)
        pieces.toList()
    }

    @Test
    fun `the model is opened at the start and its answer streams into the state`() = runTest {
        val session = session(FakeEngine { _, _ -> listOf(" upon", " a", " time") })
        assertTrue(session.state.value.canGenerate)
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(" upon a time", session.state.value.suggestion)
        assertEquals(3, session.state.value.speed?.tokens)
        assertEquals(Phase.READY, session.state.value.phase)
        session.close()
    }

    @Test
    fun `the model gets the window, and the state says how it was cut`() = runTest {
        val engine = FakeEngine { _, _ -> listOf("!") }
        val session = session(engine, text = "one two three")
        session.dispatch(Event.WindowSizeChosen(2))
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(listOf("two three"), engine.prompts)
        assertEquals(Message.Trimmed(WindowUnit.WORDS, 2, 3, TrimReason.WINDOW), session.state.value.trimmed)
        session.close()
    }

    @Test
    fun `a text with a listed word never reaches the model`() = runTest {
        val engine = writing(" it")
        val session = session(engine, text = "Oh DARN")
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(Message.TextRefused("DARN"), session.state.value.message)
        assertEquals(emptyList<String>(), engine.prompts)
        session.close()
    }

    @Test
    fun `nothing of a listed word in the answer reaches the state`() = runTest {
        val session = session(writing(" oh", " da", "rn", " it"))
        val shown = ArrayList<String>()
        session.dispatch(Event.Generate)
        while (session.state.value.phase == Phase.GENERATING) {
            shown.add(session.state.value.suggestion)
            testScheduler.advanceTimeBy(10)
            runCurrent()
        }
        assertEquals(" oh ", session.state.value.suggestion)
        assertEquals(Message.AnswerRefused, session.state.value.message)
        assertFalse(shown.any { "d" in it })
        session.close()
    }

    @Test
    fun `a listed word that begins in the text and ends in the answer is refused, also at the window's edge`() = runTest {
        val session = session(writing("rn", " it"), text = "Oh da")
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(Message.AnswerRefused, session.state.value.message)
        assertEquals("", session.state.value.suggestion)
        session.close()
    }

    @Test
    fun `a word that the window cut into a listed one is not taken for it`() = runTest {
        val engine = FakeEngine(contextLength = 64) { _, _ -> listOf(" ok") }
        val session = session(engine, text = "xdarn")
        session.dispatch(Event.WindowUnitChosen(WindowUnit.TOKENS))
        session.dispatch(Event.WindowSizeChosen(4))
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(listOf("darn"), engine.prompts)
        assertEquals(" ok", session.state.value.suggestion)
        session.close()
    }

    @Test
    fun `the speed leaves out the time to the first token`() = runTest {
        val engine = FakeEngine { _, _ ->
            delay(5_000)
            listOf(" a")
        }
        val session = session(engine)
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(Speed(1, null), session.state.value.speed)
        session.close()
    }

    @Test
    fun `Stop cancels the model in the middle`() = runTest {
        val cancelled = CompletableDeferred<Unit>()
        val engine = FakeEngine { _, _ ->
            try {
                awaitCancellation()
            } finally {
                cancelled.complete(Unit)
            }
        }
        val session = session(engine)
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        session.dispatch(Event.Stop)
        advanceUntilIdle()
        assertTrue(cancelled.isCompleted)
        assertTrue(session.state.value.canGenerate)
        session.close()
    }

    @Test
    fun `a hundred rapid pairs of Generate and Stop end ready, and the next answer comes`() = runTest {
        val session = session(writing(" upon"))
        repeat(100) {
            session.dispatch(Event.Generate)
            if (it % 3 == 0) runCurrent()
            if (it % 5 == 0) advanceTimeBy(50)
            session.dispatch(Event.Stop)
        }
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(" upon", session.state.value.suggestion)
        session.close()
    }

    @Test
    fun `another model is opened after the one before was closed`() = runTest {
        val first = writing(" a")
        val second = writing(" b")
        val session = session(Library(mapOf("a" to first, "b" to second)))
        session.dispatch(Event.Generate)
        session.dispatch(Event.ModelChosen("b"))
        advanceUntilIdle()
        assertEquals(1, first.closed)
        assertEquals(Phase.READY, session.state.value.phase)
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(" b", session.state.value.suggestion)
        session.close()
        advanceUntilIdle()
        assertEquals(1, second.closed)
    }

    @Test
    fun `models chosen one right after the other leave one engine open`() = runTest {
        val engines = listOf("a", "b", "c").associateWith { writing(it) }
        val session = session(Library(engines))
        repeat(20) {
            session.dispatch(Event.ModelChosen("b"))
            if (it % 2 == 0) runCurrent()
            session.dispatch(Event.ModelChosen("c"))
        }
        advanceUntilIdle()
        assertEquals("c", session.state.value.chosen)
        assertEquals(0, engines.getValue("c").closed)
        session.close()
        advanceUntilIdle()
        assertTrue(engines.values.all { it.closed > 0 })
    }

    @Test
    fun `a model that is refused says why, in its own words`() = runTest {
        val library = Library(mapOf("a" to writing(" a")))
        val session = session(library)
        session.dispatch(Event.ModelChosen("gone"))
        advanceUntilIdle()
        val message = session.state.value.message as Message.Failed
        assertEquals("The file gone was changed.", message.error.message)
        assertEquals(Phase.NO_MODEL, session.state.value.phase)
        session.close()
    }

    @Test
    fun `an error of the runtime ends the answer and is shown`() = runTest {
        val session = session(FakeEngine { _, _ -> throw ModelError.RuntimeFailure("The run failed.") })
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertTrue(session.state.value.message is Message.Failed)
        assertEquals(Phase.READY, session.state.value.phase)
        session.close()
    }

    @Test
    fun `an import reports its progress and opens the model`() = runTest {
        val library = Library(mapOf("a" to writing(" a"), "new" to writing(" n")))
        val session = session(library)
        val choice = library.list().last()
        session.importModel("new.tflite") { report ->
            report(ImportProgress("new.tflite", 5, 10))
            assertEquals(ImportProgress("new.tflite", 5, 10), session.state.value.importing)
            choice
        }
        advanceUntilIdle()
        assertNull(session.state.value.importing)
        assertEquals("new", session.state.value.chosen)
        assertEquals(Phase.READY, session.state.value.phase)
        session.close()
    }

    @Test
    fun `a failed import is told and the model in use stays`() = runTest {
        val session = session(writing(" a"))
        session.importModel("new.tflite") { throw IOException("The card was pulled out.") }
        advanceUntilIdle()
        assertEquals(Message.Unexpected("The card was pulled out."), session.state.value.message)
        assertTrue(session.state.value.canGenerate)
        session.close()
    }

    @Test
    fun `an edited word list is in force at once and at the next start`() = runTest {
        val session = session(writing(" it"), text = "the frog")
        session.dispatch(Event.WordsEdited("frog\ntoad"))
        advanceUntilIdle()
        assertEquals(Message.WordsSaved(2), session.state.value.message)
        session.dispatch(Event.Generate)
        advanceUntilIdle()
        assertEquals(Message.TextRefused("frog"), session.state.value.message)
        assertEquals("frog\ntoad", words.read())
        session.close()
    }

    @Test
    fun `a word list with an unusable entry is refused and not saved`() = runTest {
        val session = session(writing(" it"))
        session.dispatch(Event.WordsEdited("frog\n???"))
        advanceUntilIdle()
        assertEquals(Message.EntryRefused("???"), session.state.value.message)
        assertEquals("darn", words.read())
        session.close()
    }

    @Test
    fun `Copy hands the text to the clipboard`() = runTest {
        val session = session(writing(" a"))
        session.dispatch(Event.Copy)
        assertEquals("Once", session.clipboard.first())
        session.close()
    }

    @Test
    fun `closing in the middle of an answer ends it and frees the model`() = runTest {
        val engine = FakeEngine { _, _ -> awaitCancellation() }
        val session = session(engine)
        session.dispatch(Event.Generate)
        runCurrent()
        session.close()
        advanceUntilIdle()
        assertEquals(1, engine.closed)
    }

    @Test
    fun `closing while a model is being opened frees that too`() = runTest {
        val engine = writing(" a")
        val dispatcher = StandardTestDispatcher(testScheduler)
        val library = Library(mapOf("a" to engine))
        val session = AutocompleteSession(AutocompleteState(), library, words, dispatcher, dispatcher)
        session.start()
        while (library.opened.isEmpty()) testScheduler.runCurrent()
        session.close()
        advanceUntilIdle()
        assertEquals(1, engine.closed)
    }
}
