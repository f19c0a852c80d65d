package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Assertions.assertFalse
import org.junit.jupiter.api.Assertions.assertNull
import org.junit.jupiter.api.Assertions.assertTrue
import org.junit.jupiter.api.Nested
import org.junit.jupiter.api.Test
import org.junit.jupiter.params.ParameterizedTest
import org.junit.jupiter.params.provider.CsvSource
import org.junit.jupiter.params.provider.ValueSource

class AutocompleteReducerTest {
    private val info = ModelInfo("GPT2CausalLM", "prefill_decode", "dynamic_range", 124, 1024, 130)
    private val ready = AutocompleteState(
        text = "Once upon",
        phase = Phase.READY,
        models = listOf(ModelChoice("a", "A", info), ModelChoice("b", "B", info)),
        chosen = "a",
        opened = info,
        seed = 100,
    )
    private val drawing = ready.copy(choice = TokenChoice(0.7f, 50))

    private fun AutocompleteState.after(vararg events: Event): AutocompleteState =
        events.fold(this) { state, event -> AutocompleteReducer.reduce(state, event).state }

    private fun effects(state: AutocompleteState, event: Event) = AutocompleteReducer.reduce(state, event).effects

    private fun generation(state: AutocompleteState, event: Event) =
        effects(state, event).filterIsInstance<Effect.StartGeneration>().single()

    /** What the running generation writes, to its end. */
    private fun AutocompleteState.answered(text: String, finish: FinishReason = FinishReason.STOP) =
        after(written(text), Event.Ended(request, finish))

    private fun AutocompleteState.written(text: String) = Event.Written(request, text, Speed(2, 10f))

    @Nested
    inner class Generating {
        @Test
        fun `the window's text goes to the model with the user's choice`() {
            assertEquals(
                Effect.StartGeneration(
                    1,
                    "Once upon",
                    ContextWindow(WindowUnit.WORDS, 512),
                    Parameters(AutocompleteReducer.MAX_NEW_TOKENS, 0.7f, 50, seed = 101),
                ),
                generation(drawing, Event.Generate),
            )
            assertNull(generation(ready, Event.Generate).parameters.seed, "the best token needs no seed")
        }

        @Test
        fun `text is appended as it comes`() {
            val state = ready.after(Event.Generate).let { it.after(it.written(" a"), it.written(" time")) }
            assertEquals(" a time", state.suggestion)
            assertEquals(Phase.GENERATING, state.phase)
            assertEquals(Speed(2, 10f), state.speed)
        }

        @Test
        fun `what an earlier generation still says is ignored`() {
            val first = ready.after(Event.Generate)
            val second = first.after(Event.Stop, Event.Generate)
            val late = second.after(
                first.written("late"),
                Event.Ended(first.request, FinishReason.STOP),
                Event.Refused(first.request, Message.AnswerRefused),
                Event.TextWindowed(first.request, WindowedText("x", WindowUnit.WORDS, 1, 2, TrimReason.WINDOW)),
            )
            assertEquals(second, late)
        }

        @Test
        fun `Generate is refused without a model or text, and ignored while one is written or shown`() {
            assertEquals(Message.NoModel, ready.copy(phase = Phase.NO_MODEL).after(Event.Generate).message)
            assertEquals(Message.NoText, ready.copy(text = " \n").after(Event.Generate).message)
            val running = ready.after(Event.Generate)
            assertEquals(running, running.after(Event.Generate))
            val shown = running.answered(" a time")
            assertEquals(shown, shown.after(Event.Generate))
            val opening = ready.copy(phase = Phase.OPENING)
            assertEquals(opening, opening.after(Event.Generate))
        }

        @Test
        fun `a trimmed text says how and why`() {
            val running = ready.after(Event.Generate)
            val cut = WindowedText("x", WindowUnit.TOKENS, 5, 9, TrimReason.CONTEXT)
            assertEquals(
                Message.Trimmed(WindowUnit.TOKENS, 5, 9, TrimReason.CONTEXT),
                running.after(Event.TextWindowed(running.request, cut)).trimmed,
            )
            assertNull(running.after(Event.TextWindowed(running.request, cut.copy(trimmed = null))).trimmed)
        }

        @Test
        fun `an answer that the context ended says so`() {
            assertEquals(Message.ContextFull, ready.after(Event.Generate).answered(" a", FinishReason.CONTEXT).message)
            assertNull(ready.after(Event.Generate).answered(" a", FinishReason.LENGTH).message)
        }

        @ParameterizedTest
        @ValueSource(strings = ["", " ", "\n\n"])
        fun `an answer without a word is none`(answer: String) {
            val state = ready.after(Event.Generate).answered(answer)
            assertEquals(Message.NothingToAdd, state.message)
            assertEquals("", state.suggestion)
            assertTrue(state.canGenerate)
        }

        @Test
        fun `Stop keeps what was written`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(listOf(Effect.CancelGeneration), effects(running, Event.Stop))
            val stopped = running.after(Event.Stop)
            assertEquals(" a", stopped.suggestion)
            assertTrue(stopped.canAccept && stopped.canRenew && !stopped.canStop)
            assertEquals(stopped, stopped.after(Event.Stop))
        }

        @Test
        fun `a hundred rapid pairs of Generate and Stop leave the state as it was`() {
            val end = (1..100).fold(ready) { state, _ -> state.after(Event.Generate, Event.Stop) }
            assertEquals(ready.copy(request = 100), end)
            assertNull(generation(end, Event.Generate).parameters.seed, "nothing was shown, so nothing else is wanted")
        }

        @Test
        fun `a refusal ends the generation and keeps what was let through`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            val refused = running.after(Event.Refused(running.request, Message.AnswerRefused))
            assertEquals(Message.AnswerRefused, refused.message)
            assertEquals(" a", refused.suggestion)
            assertEquals(Phase.READY, refused.phase)
        }

        @Test
        fun `a greedy answer that was refused whole is not asked for again`() {
            val running = ready.after(Event.Generate)
            val refused = running.after(Event.Refused(running.request, Message.AnswerRefused))
            assertEquals(AutocompleteReducer.DRAWN.temperature, generation(refused, Event.Generate).parameters.temperature)
        }
    }

    @Nested
    inner class Renewing {
        @Test
        fun `a greedy choice is drawn instead, and the message says how`() {
            val state = ready.after(Event.Generate).answered(" a time")
            val next = generation(state, Event.NewSuggestion)
            assertEquals(Parameters(64, temperature = 0.8f, topK = 40, seed = 102), next.parameters)
            assertEquals(Message.DrawnInstead(0.8f, 40, 102), state.after(Event.NewSuggestion).message)
            assertEquals("", state.after(Event.NewSuggestion).suggestion)
        }

        @Test
        fun `top-k of one is greedy at any temperature`() {
            val state = ready.copy(choice = TokenChoice(1f, 1)).after(Event.Generate).answered(" a")
            assertEquals(40, generation(state, Event.NewSuggestion).parameters.topK)
        }

        @Test
        fun `a drawn choice gets another seed each time`() {
            val first = drawing.after(Event.Generate).answered(" a")
            val second = first.after(Event.NewSuggestion)
            assertEquals(Message.OtherSeed(102), second.message)
            assertEquals(103, generation(second.answered(" b"), Event.NewSuggestion).parameters.seed)
        }

        @Test
        fun `a suggestion that was there is tried again by itself`() {
            val again = drawing.after(Event.Generate).answered(" a").after(Event.NewSuggestion)
            val reduction = AutocompleteReducer.reduce(
                again.after(again.written(" a")),
                Event.Ended(again.request, FinishReason.STOP),
            )
            val effect = reduction.effects.filterIsInstance<Effect.StartGeneration>().single()
            assertEquals(103, effect.parameters.seed)
            assertEquals("", reduction.state.suggestion)
            assertEquals(Phase.GENERATING, reduction.state.phase)
        }

        @Test
        fun `a model that only repeats itself is left after a few tries`() {
            var state = drawing.after(Event.Generate).answered(" a").after(Event.NewSuggestion)
            var tries = 0
            while (state.phase == Phase.GENERATING) {
                state = state.answered(" a")
                tries++
            }
            assertEquals(1 + AutocompleteReducer.MAX_REPEATS, tries)
            assertEquals(Message.NoOtherSuggestion, state.message)
            assertEquals(" a", state.suggestion)
        }

        @Test
        fun `a file that always takes the best token says so instead of running`() {
            val fixed = ready.copy(opened = info.copy(layout = "generate", fixedChoice = TokenChoice(0f, 0)))
            val state = fixed.after(Event.Generate).answered(" a")
            assertEquals(emptyList<Effect>(), effects(state, Event.NewSuggestion))
            assertEquals(Message.AlwaysTheSame, state.after(Event.NewSuggestion).message)
            assertEquals(" a", state.after(Event.NewSuggestion).suggestion)
        }

        @Test
        fun `a file with a choice of its own gets that choice and another seed`() {
            val fixed = ready.copy(opened = info.copy(fixedChoice = TokenChoice(0.6f, 5)))
            assertFalse(fixed.canChooseTokens)
            val state = fixed.after(Event.Generate).answered(" a")
            assertEquals(Parameters(64, 0.6f, 5, seed = 102), generation(state, Event.NewSuggestion).parameters)
            assertEquals(Message.OtherSeed(102), state.after(Event.NewSuggestion).message)
        }

        @Test
        fun `after other settings the best tokens are asked for once more`() {
            val state = ready.after(Event.Generate).answered(" a").after(Event.WindowSizeChosen(3))
            val next = generation(state, Event.NewSuggestion)
            assertEquals(0f, next.parameters.temperature)
            assertEquals(3, next.window.size)
            val same = state.after(Event.NewSuggestion)
            assertEquals(0.8f, same.answered(" a").let { (it.message as Message.DrawnInstead).temperature })
        }

        @Test
        fun `New suggestion needs a suggestion`() {
            assertEquals(ready, ready.after(Event.NewSuggestion))
            val running = ready.after(Event.Generate)
            assertEquals(running, running.after(Event.NewSuggestion))
        }
    }

    @Nested
    inner class Editing {
        @Test
        fun `Accept appends the suggestion and marks it`() {
            val state = ready.after(Event.Generate).answered(" a time").after(Event.Accept)
            assertEquals("Once upon a time", state.text)
            assertEquals(listOf(TextSpan(9, 16)), state.accepted)
            assertEquals("", state.suggestion)
            assertTrue(state.canGenerate)
            assertFalse(state.canRenew)
            assertNull(generation(state, Event.Generate).parameters.seed)
        }

        @Test
        fun `suggestions accepted one after another are one mark`() {
            val once = ready.after(Event.Generate).answered(" a").after(Event.Accept)
            val twice = once.after(Event.Generate).answered(" time").after(Event.Accept)
            assertEquals(listOf(TextSpan(9, 16)), twice.accepted)
        }

        @Test
        fun `Accept while the model writes takes what is there and stops it`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(listOf(Effect.CancelGeneration), effects(running, Event.Accept))
            val accepted = running.after(Event.Accept, running.written("late"))
            assertEquals("Once upon a", accepted.text)
            assertEquals(Phase.READY, accepted.phase)
        }

        @Test
        fun `an edit while the model writes stops it, for it continues another text`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(listOf(Effect.CancelGeneration), effects(running, Event.TextEdited("Twice")))
            assertEquals("", running.after(Event.TextEdited("Twice")).suggestion)
        }

        @Test
        fun `the same text again changes nothing, as after a rotation`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(running, running.after(Event.TextEdited("Once upon")))
        }

        @ParameterizedTest(name = "[{0}] to [{1}] leaves {2}")
        @CsvSource(
            "ab-cd-ef, ab-cd-efg, 3..5", "ab-cd-ef, xab-cd-ef, 4..6", "ab-cd-ef, -cd-ef, 1..3", "ab-cd-ef, ab-cxd-ef, none",
            "ab-cd-ef, ab-d-ef, none", "ab-cd-ef, ab--ef, none", "ab-cd-ef, ab-, none", "ab-cd-ef, ab-cd, 3..5",
            "ab-cd-ef, ab-cd!-ef, 3..5", "ab-cd-ef, ab-!cd-ef, 4..6", "ab-cd-ef, '', none", "ab-cd-ef, zzzzz, none",
        )
        fun `a mark stays with its text until that is changed`(before: String, after: String, mark: String) {
            val left = acceptedAfterEdit(listOf(TextSpan(3, 5)), before, after)
            assertEquals(if (mark == "none") "none" else mark, left.singleOrNull()?.let { "${it.start}..${it.end}" } ?: "none")
        }

        @Test
        fun `Clear forgets the text and stops the model`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(listOf(Effect.CancelGeneration), effects(running, Event.Clear))
            val cleared = running.after(Event.Clear)
            assertEquals("", cleared.text + cleared.suggestion)
            assertFalse(cleared.canClear || cleared.canCopy || cleared.canAccept || cleared.canGenerate)
        }

        @Test
        fun `Copy takes the text without what was not accepted`() {
            val state = ready.after(Event.Generate).answered(" a")
            assertEquals(listOf(Effect.CopyText("Once upon")), effects(state, Event.Copy))
            assertEquals(Message.Copied, state.after(Event.Copy).message)
            assertEquals(emptyList<Effect>(), effects(ready.copy(text = ""), Event.Copy))
        }
    }

    @Nested
    inner class Settings {
        @Test
        fun `the window is half of the context until one is chosen`() {
            assertEquals(ContextWindow(WindowUnit.WORDS, 512), ready.window)
            assertEquals(ContextWindow(WindowUnit.WORDS, 20), ready.after(Event.WindowSizeChosen(20)).window)
        }

        @ParameterizedTest
        @CsvSource("0, 1", "-5, 1", "1022, 1022", "5000, 1022")
        fun `a window stays within what the model holds`(wanted: Int, got: Int) {
            assertEquals(got, ready.after(Event.WindowSizeChosen(wanted)).window.size)
        }

        @Test
        fun `a window of words is no window of tokens`() {
            val state = ready.after(Event.WindowSizeChosen(20), Event.WindowUnitChosen(WindowUnit.TOKENS))
            assertEquals(ContextWindow(WindowUnit.TOKENS, 512), state.window)
        }

        @ParameterizedTest
        @CsvSource("-1, 0", "0.5, 0.5", "9, 2", "NaN, 0")
        fun `a temperature stays within its range`(wanted: Float, got: Float) {
            assertEquals(got, ready.after(Event.TemperatureChosen(wanted)).choice.temperature)
        }

        @ParameterizedTest
        @CsvSource("-1, 0", "0, 0", "7, 7", "999, 200")
        fun `top-k stays within its range`(wanted: Int, got: Int) {
            assertEquals(got, ready.after(Event.TopKChosen(wanted)).choice.topK)
        }

        @Test
        fun `a running answer is not touched by other settings`() {
            val running = ready.after(Event.Generate)
            val changed = running.after(Event.TemperatureChosen(1f), Event.TopKChosen(3), Event.WindowSizeChosen(4))
            assertEquals(Phase.GENERATING, changed.phase)
            assertEquals(" a", changed.answered(" a").suggestion)
        }

        @Test
        fun `an edited word list is saved, and then it is said how long it is`() {
            assertEquals(listOf(Effect.SaveWords("darn")), effects(ready, Event.WordsEdited("darn")))
            assertEquals(Message.WordsSaved(1), ready.after(Event.WordsSaved(1)).message)
        }

        @Test
        fun `a message goes when it was seen`() {
            assertNull(ready.after(Event.Told(Message.OutOfMemory), Event.MessageSeen).message)
        }
    }

    @Nested
    inner class Models {
        private val start = AutocompleteState(text = "Hi")

        @Test
        fun `the first model is opened, or the one that was in use`() {
            val listed = Event.ModelsListed(ready.models)
            assertEquals(listOf(Effect.OpenModel("a")), effects(start, listed))
            assertEquals(listOf(Effect.OpenModel("b")), effects(start.copy(chosen = "b"), listed))
            assertEquals(listOf(Effect.OpenModel("a")), effects(start.copy(chosen = "gone"), listed))
            assertEquals(emptyList<Effect>(), effects(ready, listed))
        }

        @Test
        fun `without a model it is said that there is none`() {
            assertEquals(Message.NoModel, start.after(Event.ModelsListed(emptyList())).message)
        }

        @Test
        fun `a model can be used once it is open`() {
            val opening = start.after(Event.ModelsListed(ready.models))
            assertEquals(Phase.OPENING, opening.phase)
            assertFalse(opening.canGenerate)
            val opened = opening.after(Event.ModelOpened("a", info))
            assertTrue(opened.canGenerate)
            assertEquals(1022, opened.windowLimit)
        }

        @Test
        fun `only the model that was chosen last counts`() {
            val state = start.after(Event.ModelsListed(ready.models), Event.ModelChosen("b"))
            assertEquals(state, state.after(Event.ModelOpened("a", info)))
            assertEquals(state, state.after(Event.ModelRefused("a", Message.OutOfMemory)))
        }

        @Test
        fun `another model stops the running answer and keeps what it wrote`() {
            val running = ready.after(Event.Generate).let { it.after(it.written(" a")) }
            assertEquals(listOf(Effect.CancelGeneration, Effect.OpenModel("b")), effects(running, Event.ModelChosen("b")))
            val opened = running.after(Event.ModelChosen("b"), Event.ModelOpened("b", info))
            assertEquals(" a", opened.suggestion)
            assertNull(generation(opened, Event.NewSuggestion).parameters.seed, "another model, so its best tokens first")
        }

        @Test
        fun `the model in use is not opened twice`() {
            assertEquals(ready, ready.after(Event.ModelChosen("a")))
        }

        @Test
        fun `a model that is refused can be chosen again`() {
            val error = Message.Failed(ModelError.WrongDigest("The file was changed."))
            val refused = start.after(Event.ModelsListed(ready.models), Event.ModelRefused("a", error))
            assertEquals(error, refused.message)
            assertEquals(Phase.NO_MODEL, refused.phase)
            assertEquals(listOf(Effect.OpenModel("a")), effects(refused, Event.ModelChosen("a")))
        }

        @Test
        fun `a smaller model makes a chosen window smaller while it is in use`() {
            val small = info.copy(contextLength = 16)
            val state = ready.after(Event.WindowSizeChosen(100), Event.ModelChosen("b"), Event.ModelOpened("b", small))
            assertEquals(14, state.window.size)
            assertEquals(100, state.after(Event.ModelChosen("a"), Event.ModelOpened("a", info)).window.size)
        }

        @Test
        fun `an imported model joins the list and is opened`() {
            val importing = ready.after(Event.ImportProgressed(ImportProgress("c", 5, 10)))
            assertEquals(ImportProgress("c", 5, 10), importing.importing)
            val imported = Event.ImportEnded(ModelChoice("c", "C", info))
            assertEquals(listOf(Effect.OpenModel("c")), effects(importing, imported))
            val state = importing.after(imported)
            assertNull(state.importing)
            assertEquals(listOf("a", "b", "c"), state.models.map { it.id })
            assertEquals(Message.Imported("C"), state.message)
        }

        @Test
        fun `an import in place of the model in use opens it anew`() {
            val imported = Event.ImportEnded(ModelChoice("a", "A", info.copy(sizeBytes = 7)))
            assertEquals(listOf(Effect.OpenModel("a")), effects(ready, imported))
            assertEquals(2, ready.after(imported).models.size)
        }

        @Test
        fun `a refused import leaves the model in use`() {
            val importing = ready.after(Event.ImportProgressed(ImportProgress("c", 5, null)))
            val message = Message.Failed(ModelError.NotAModel("This is neither."))
            assertEquals(ready.copy(message = message), importing.after(Event.ImportRefused(message)))
            assertEquals(ready, importing.after(Event.ImportRefused(null)))
        }
    }
}
