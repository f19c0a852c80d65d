package io.github.llmtflite.core

/** Characters of a text from [start] to before [end]. */
data class TextSpan(val start: Int, val end: Int) {
    init {
        require(start in 0..end) { "a span was expected to begin at 0 or later and not end before; got $start..$end" }
    }

    val length: Int get() = end - start
}

/** A model that can be opened; [id] is the app's. */
data class ModelChoice(val id: String, val title: String, val info: ModelInfo)

/** What is going on. */
enum class Phase { NO_MODEL, OPENING, READY, GENERATING }

/**
 * How fast the answer came.
 *
 * @property tokens new tokens so far.
 * @property tokensPerSecond without the time to the first token, which reads the prompt; null before the second.
 */
data class Speed(val tokens: Int, val tokensPerSecond: Float?)

/** Bytes of a file that were copied; [total] is null where nobody knows it. */
data class ImportProgress(val name: String, val copied: Long, val total: Long?)

/** Whether the same text always gets the same answer. */
val TokenChoice.isGreedy: Boolean get() = temperature == 0f || topK == 1

/**
 * Everything that the screen shows.
 *
 * @property accepted parts of [text] that were suggestions, in order; an edit inside one unmarks it.
 * @property suggestion what the model wrote to follow [text], while it writes and until it is accepted.
 * @property seen suggestions that there were for [text].
 * @property request number of the last generation; what an earlier one still says is ignored.
 * @property attempts generations that were begun for [text] with these settings.
 * @property repeats how often the running one was begun anew, because its suggestion was [seen].
 * @property windowSize what the user chose; null for half of the model's context.
 * @property choice how tokens are chosen where the model leaves it to the user.
 * @property seed where the seeds of generations begin.
 * @property chosen the [ModelChoice.id] of the model in use.
 * @property opened the model in use, once it is open.
 * @property trimmed how the text of the last generation was cut, if it was.
 */
data class AutocompleteState(
    val text: String = "",
    val accepted: List<TextSpan> = emptyList(),
    val suggestion: String = "",
    val seen: Set<String> = emptySet(),
    val phase: Phase = Phase.NO_MODEL,
    val request: Int = 0,
    val attempts: Int = 0,
    val repeats: Int = 0,
    val windowUnit: WindowUnit = WindowUnit.WORDS,
    val windowSize: Int? = null,
    val choice: TokenChoice = TokenChoice(temperature = 0f, topK = 40),
    val seed: Long = 1,
    val models: List<ModelChoice> = emptyList(),
    val chosen: String? = null,
    val opened: ModelInfo? = null,
    val importing: ImportProgress? = null,
    val speed: Speed? = null,
    val trimmed: Message.Trimmed? = null,
    val message: Message? = null,
) {
    val canGenerate: Boolean get() = phase == Phase.READY && text.isNotBlank() && suggestion.isEmpty()
    val canStop: Boolean get() = phase == Phase.GENERATING
    val canRenew: Boolean get() = phase == Phase.READY && text.isNotBlank() && seen.isNotEmpty()
    val canAccept: Boolean get() = suggestion.isNotEmpty()
    val canCopy: Boolean get() = text.isNotEmpty()
    val canClear: Boolean get() = text.isNotEmpty() || suggestion.isNotEmpty()
    val canChooseTokens: Boolean get() = opened?.fixedChoice == null

    /** The largest window of the open model; 1 while there is none. */
    val windowLimit: Int get() = opened?.let { ContextWindow.largest(it.contextLength) } ?: 1

    /** The window in force: the one that was chosen, as far as the model can hold it. */
    val window: ContextWindow
        get() = windowSize?.let { ContextWindow(windowUnit, it.coerceIn(1, windowLimit)) }
            ?: ContextWindow.default(windowUnit, opened?.contextLength ?: 1)
}
