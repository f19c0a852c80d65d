package io.github.llmtflite.core

/** What happened: the user did something, or the model did. */
sealed interface Event {
    data class TextEdited(val text: String) : Event
    data object Generate : Event
    data object Stop : Event
    data object NewSuggestion : Event
    data object Accept : Event
    data object Copy : Event
    data object Clear : Event
    data object MessageSeen : Event
    data class WindowUnitChosen(val unit: WindowUnit) : Event
    data class WindowSizeChosen(val size: Int) : Event
    data class TemperatureChosen(val temperature: Float) : Event
    data class TopKChosen(val topK: Int) : Event
    data class WordsEdited(val list: String) : Event

    data class ModelsListed(val models: List<ModelChoice>) : Event
    data class ModelChosen(val id: String) : Event
    data class ModelOpened(val id: String, val info: ModelInfo) : Event
    data class ModelRefused(val id: String, val message: Message) : Event
    data class ImportProgressed(val progress: ImportProgress) : Event
    data class ImportEnded(val model: ModelChoice) : Event
    data class ImportRefused(val message: Message?) : Event

    data class TextWindowed(val request: Int, val windowed: WindowedText) : Event
    data class Written(val request: Int, val text: String, val speed: Speed) : Event
    data class Ended(val request: Int, val finish: FinishReason) : Event
    data class Refused(val request: Int, val message: Message) : Event
    data class WordsSaved(val entries: Int) : Event
    data class Told(val message: Message) : Event
}

/** What is to be done outside of the state. */
sealed interface Effect {
    /** Ends the generation before, if one runs, and begins another. */
    data class StartGeneration(
        val request: Int,
        val text: String,
        val window: ContextWindow,
        val parameters: Parameters,
    ) : Effect
    data object CancelGeneration : Effect
    data class OpenModel(val id: String) : Effect
    data class CopyText(val text: String) : Effect
    data class SaveWords(val list: String) : Effect
}

data class Reduction(val state: AutocompleteState, val effects: List<Effect> = emptyList())

/** All rules of the screen, without a clock, a thread or a model: the same state and event give the same result. */
object AutocompleteReducer {
    const val MAX_NEW_TOKENS = 64
    const val MAX_TEMPERATURE = 2f
    const val MAX_TOP_K = 200

    /** What New suggestion draws with where the user's choice has no chance in it. */
    val DRAWN = TokenChoice(temperature = 0.8f, topK = 40)

    /** How often one press of New suggestion begins anew when the model repeats itself. */
    const val MAX_REPEATS = 3

    fun reduce(state: AutocompleteState, event: Event): Reduction = when (event) {
        is Event.TextEdited -> if (event.text == state.text) Reduction(state) else edited(state, event.text)
        Event.Generate -> generate(state)
        Event.NewSuggestion -> if (state.canRenew) begin(state) else Reduction(state)
        Event.Stop -> if (state.canStop) stopped(state) else Reduction(state)
        Event.Accept -> if (state.canAccept) accepted(state) else Reduction(state)
        Event.Copy -> copied(state)
        Event.Clear -> forgotten(state, text = "", accepted = emptyList())
        Event.MessageSeen -> Reduction(state.copy(message = null))
        is Event.WindowUnitChosen -> window(state, event.unit)
        is Event.WindowSizeChosen -> settings(state.copy(windowSize = event.size.coerceIn(1, state.windowLimit)))
        is Event.TemperatureChosen -> temperature(state, event.temperature)
        is Event.TopKChosen ->
            settings(state.copy(choice = state.choice.copy(topK = event.topK.coerceIn(0, MAX_TOP_K))))
        is Event.WordsEdited -> Reduction(state, listOf(Effect.SaveWords(event.list)))
        is Event.WordsSaved -> Reduction(state.copy(message = Message.WordsSaved(event.entries)))
        is Event.Told -> Reduction(state.copy(message = event.message))
        is Event.ModelsListed -> listed(state, event.models)
        is Event.ModelChosen -> chosen(state, event.id)
        is Event.ModelOpened -> opened(state, event)
        is Event.ModelRefused -> refused(state, event)
        is Event.ImportProgressed -> Reduction(state.copy(importing = event.progress))
        is Event.ImportEnded -> imported(state, event.model)
        is Event.ImportRefused ->
            Reduction(state.copy(importing = null, message = event.message ?: state.message))
        is Event.TextWindowed -> ofRequest(state, event.request) { Reduction(state.copy(trimmed = cut(event.windowed))) }
        is Event.Written -> ofRequest(state, event.request) {
            Reduction(state.copy(suggestion = state.suggestion + event.text, speed = event.speed))
        }
        is Event.Ended -> ofRequest(state, event.request) { ended(state, event.finish) }
        is Event.Refused -> ofRequest(state, event.request) {
            val next = if (event.message == Message.AnswerRefused) kept(state) else interrupted(state)
            Reduction(next.copy(phase = Phase.READY, message = event.message))
        }
    }

    private fun ofRequest(state: AutocompleteState, request: Int, then: () -> Reduction): Reduction =
        if (state.phase == Phase.GENERATING && request == state.request) then() else Reduction(state)

    private fun generate(state: AutocompleteState): Reduction = when {
        state.phase == Phase.GENERATING || state.phase == Phase.OPENING -> Reduction(state)
        state.phase == Phase.NO_MODEL -> Reduction(state.copy(message = Message.NoModel))
        state.text.isBlank() -> Reduction(state.copy(message = Message.NoText))
        !state.canGenerate -> Reduction(state)
        else -> begin(state)
    }

    private fun begin(state: AutocompleteState, repeats: Int = 0): Reduction {
        val isAnother = state.attempts > 0
        val fixed = state.opened?.fixedChoice
        if (isAnother && fixed?.isGreedy == true) return Reduction(state.copy(message = Message.AlwaysTheSame))
        val drawsInstead = isAnother && state.choice.isGreedy
        val choice = fixed ?: if (drawsInstead) DRAWN else state.choice
        val request = state.request + 1
        // Every generation has a seed of its own, so that no two draw alike.
        val seed = if (choice.isGreedy) null else state.seed + request
        val message = when {
            !isAnother || seed == null -> null
            fixed == null && drawsInstead -> Message.DrawnInstead(choice.temperature, choice.topK, seed)
            else -> Message.OtherSeed(seed)
        }
        val parameters = Parameters(MAX_NEW_TOKENS, choice.temperature, choice.topK, seed = seed)
        return Reduction(
            state.copy(
                phase = Phase.GENERATING,
                request = request,
                attempts = state.attempts + 1,
                repeats = repeats,
                suggestion = "",
                speed = null,
                trimmed = null,
                message = message,
            ),
            listOf(Effect.StartGeneration(request, state.text, state.window, parameters)),
        )
    }

    private fun ended(state: AutocompleteState, finish: FinishReason): Reduction {
        val ready = state.copy(phase = Phase.READY)
        return when {
            state.suggestion.isBlank() -> Reduction(ready.copy(suggestion = "", message = Message.NothingToAdd))
            state.suggestion !in state.seen -> {
                val message = if (finish == FinishReason.CONTEXT) Message.ContextFull else state.message
                Reduction(kept(ready).copy(message = message))
            }
            state.repeats < MAX_REPEATS -> begin(ready, state.repeats + 1)
            else -> Reduction(ready.copy(message = Message.NoOtherSuggestion))
        }
    }

    private fun kept(state: AutocompleteState): AutocompleteState =
        if (state.suggestion.isEmpty()) state else state.copy(seen = state.seen + state.suggestion)

    private fun stopped(state: AutocompleteState): Reduction =
        Reduction(interrupted(state).copy(phase = Phase.READY), listOf(Effect.CancelGeneration))

    /** A generation that showed nothing leaves the next one as if it had not been. */
    private fun interrupted(state: AutocompleteState): AutocompleteState =
        if (state.suggestion.isEmpty()) state.copy(attempts = state.attempts - 1) else kept(state)

    private fun accepted(state: AutocompleteState): Reduction {
        val span = TextSpan(state.text.length, state.text.length + state.suggestion.length)
        return forgotten(state, state.text + state.suggestion, joined(state.accepted, span))
    }

    private fun joined(spans: List<TextSpan>, next: TextSpan): List<TextSpan> {
        val last = spans.lastOrNull()
        return if (last?.end == next.start) spans.dropLast(1) + TextSpan(last.start, next.end) else spans + next
    }

    private fun edited(state: AutocompleteState, text: String): Reduction =
        forgotten(state, text, acceptedAfterEdit(state.accepted, state.text, text))

    /** A text that is new, of which no suggestion is known. */
    private fun forgotten(state: AutocompleteState, text: String, accepted: List<TextSpan>): Reduction {
        val running = state.phase == Phase.GENERATING
        val next = state.copy(
            text = text,
            accepted = accepted,
            suggestion = "",
            seen = emptySet(),
            attempts = 0,
            phase = if (running) Phase.READY else state.phase,
            trimmed = null,
            message = null,
        )
        return Reduction(next, if (running) listOf(Effect.CancelGeneration) else emptyList())
    }

    private fun copied(state: AutocompleteState): Reduction {
        if (!state.canCopy) return Reduction(state)
        return Reduction(state.copy(message = Message.Copied), listOf(Effect.CopyText(state.text)))
    }

    private fun window(state: AutocompleteState, unit: WindowUnit): Reduction =
        if (unit == state.windowUnit) Reduction(state) else settings(state.copy(windowUnit = unit, windowSize = null))

    private fun temperature(state: AutocompleteState, temperature: Float): Reduction {
        val valid = if (temperature.isNaN()) 0f else temperature.coerceIn(0f, MAX_TEMPERATURE)
        return settings(state.copy(choice = state.choice.copy(temperature = valid)))
    }

    /** The next generation is the first with its settings; one that runs keeps those it began with. */
    private fun settings(state: AutocompleteState): Reduction = Reduction(state.copy(attempts = 0))

    private fun listed(state: AutocompleteState, models: List<ModelChoice>): Reduction {
        val next = state.copy(models = models)
        if (state.opened != null || state.phase == Phase.OPENING) return Reduction(next)
        val wanted = models.find { it.id == state.chosen } ?: models.firstOrNull()
        return if (wanted == null) Reduction(next.copy(message = Message.NoModel)) else chosen(next, wanted.id)
    }

    private fun chosen(state: AutocompleteState, id: String): Reduction {
        if (id == state.chosen && (state.opened != null || state.phase == Phase.OPENING)) return Reduction(state)
        val cancel = if (state.phase == Phase.GENERATING) listOf(Effect.CancelGeneration) else emptyList()
        val next = kept(state).copy(phase = Phase.OPENING, chosen = id, opened = null, speed = null, message = null)
        return Reduction(next, cancel + Effect.OpenModel(id))
    }

    private fun opened(state: AutocompleteState, event: Event.ModelOpened): Reduction {
        if (event.id != state.chosen || state.phase != Phase.OPENING) return Reduction(state)
        return Reduction(state.copy(phase = Phase.READY, opened = event.info, attempts = 0))
    }

    private fun refused(state: AutocompleteState, event: Event.ModelRefused): Reduction {
        if (event.id != state.chosen) return Reduction(state)
        val cancel = if (state.phase == Phase.GENERATING) listOf(Effect.CancelGeneration) else emptyList()
        return Reduction(state.copy(phase = Phase.NO_MODEL, opened = null, message = event.message), cancel)
    }

    private fun imported(state: AutocompleteState, model: ModelChoice): Reduction {
        val models = state.models.filter { it.id != model.id } + model
        // A file of the same name replaces the one that may be open.
        val next = state.copy(models = models, importing = null, chosen = null, opened = null)
        val reduction = chosen(next, model.id)
        return reduction.copy(state = reduction.state.copy(message = Message.Imported(model.title)))
    }

    private fun cut(windowed: WindowedText): Message.Trimmed? = windowed.trimmed?.let {
        Message.Trimmed(windowed.unit, windowed.kept, windowed.total, it)
    }
}

/** The marks of [spans] after an edit: those before it stay, those behind it move, those that it changes are gone. */
internal fun acceptedAfterEdit(spans: List<TextSpan>, before: String, after: String): List<TextSpan> {
    val shorter = minOf(before.length, after.length)
    var head = 0
    while (head < shorter && before[head] == after[head]) head++
    var tail = 0
    while (tail < shorter - head && before[before.length - 1 - tail] == after[after.length - 1 - tail]) tail++
    val editEnd = before.length - tail
    val shift = after.length - before.length
    return spans.mapNotNull { span ->
        when {
            span.end <= head -> span
            span.start >= editEnd -> TextSpan(span.start + shift, span.end + shift)
            else -> null
        }
    }
}
