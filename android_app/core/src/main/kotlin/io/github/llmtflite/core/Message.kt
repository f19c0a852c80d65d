package io.github.llmtflite.core

/** What the user is told; the app says it in the user's language. */
sealed interface Message {
    /** Whether something that was asked for was not done. */
    val isProblem: Boolean get() = true

    /** The beginning of the text did not go into the model. */
    data class Trimmed(val unit: WindowUnit, val kept: Int, val total: Int, val reason: TrimReason) : Message {
        override val isProblem get() = false
    }

    /** The last suggestion had no chance in it, so this one is drawn: at this temperature, with this seed. */
    data class DrawnInstead(val temperature: Float, val topK: Int, val seed: Long) : Message {
        override val isProblem get() = false
    }

    /** This suggestion is drawn with another seed. */
    data class OtherSeed(val seed: Long) : Message {
        override val isProblem get() = false
    }

    /** The text is in the clipboard. */
    data object Copied : Message {
        override val isProblem get() = false
    }

    /** A model was imported and is being opened. */
    data class Imported(val name: String) : Message {
        override val isProblem get() = false
    }

    /** The new word list is in force. */
    data class WordsSaved(val entries: Int) : Message {
        override val isProblem get() = false
    }

    /** The answer ended before the model was done. */
    data object ContextFull : Message {
        override val isProblem get() = false
    }

    /** There is nothing to continue. */
    data object NoText : Message

    /** No model was chosen, or it could not be opened. */
    data object NoModel : Message

    /** The text has this word of the list. */
    data class TextRefused(val word: String) : Message

    /** The model wrote a word of the list; what came after the last decided word is not shown. */
    data object AnswerRefused : Message

    /** The model ended its answer before the first word. */
    data object NothingToAdd : Message

    /** The file takes the best token always, so the same text gets the same suggestion. */
    data object AlwaysTheSame : Message

    /** Every further try gave a suggestion that was there before. */
    data object NoOtherSuggestion : Message

    /** The model, its file or the runtime refused. */
    data class Failed(val error: ModelError) : Message

    /** The word list has an entry without a letter or digit, so the old list stays in force. */
    data class EntryRefused(val entry: String) : Message

    /** The device has not enough memory for what was asked. */
    data object OutOfMemory : Message

    /** Something went wrong that has no name here; the file system's or the system's own words. */
    data class Unexpected(val detail: String) : Message
}
