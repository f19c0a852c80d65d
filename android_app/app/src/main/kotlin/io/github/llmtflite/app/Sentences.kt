package io.github.llmtflite.app

import android.content.Context
import android.text.format.Formatter
import io.github.llmtflite.core.ContextWindow
import io.github.llmtflite.core.ImportProgress
import io.github.llmtflite.core.Message
import io.github.llmtflite.core.ModelChoice
import io.github.llmtflite.core.ModelError
import io.github.llmtflite.core.Speed
import io.github.llmtflite.core.TokenChoice
import io.github.llmtflite.core.TrimReason
import io.github.llmtflite.core.WindowUnit

/** What the state says, in the user's language. */
class Sentences(private val context: Context) {
    fun of(message: Message): String = when (message) {
        is Message.Trimmed -> context.getString(trimmed(message), message.kept, message.total)
        is Message.DrawnInstead -> context.getString(R.string.drawn_instead, message.temperature, message.topK, message.seed)
        is Message.OtherSeed -> context.getString(R.string.other_seed, message.seed)
        Message.Copied -> context.getString(R.string.copied)
        is Message.Imported -> context.getString(R.string.imported, message.name)
        is Message.WordsSaved -> context.getString(R.string.words_saved, message.entries)
        Message.ContextFull -> context.getString(R.string.context_full)
        Message.NoText -> context.getString(R.string.no_text)
        Message.NoModel -> context.getString(R.string.no_model)
        is Message.TextRefused -> context.getString(R.string.text_refused, message.word)
        Message.AnswerRefused -> context.getString(R.string.answer_refused)
        Message.NothingToAdd -> context.getString(R.string.nothing_to_add)
        Message.AlwaysTheSame -> context.getString(R.string.always_the_same)
        Message.NoOtherSuggestion -> context.getString(R.string.no_other_suggestion)
        is Message.EntryRefused -> context.getString(R.string.entry_refused, message.entry)
        Message.OutOfMemory -> context.getString(R.string.out_of_memory)
        is Message.Unexpected -> context.getString(R.string.unexpected, message.detail)
        is Message.Failed ->
            context.getString(R.string.error_with_detail, context.getString(headline(message.error)), message.error.message)
    }

    fun of(model: ModelChoice): String = context.getString(
        R.string.model_description,
        model.title,
        Formatter.formatFileSize(context, model.info.sizeBytes),
        model.info.quantizer,
        model.info.contextLength,
    )

    fun of(progress: ImportProgress): String {
        val copied = Formatter.formatFileSize(context, progress.copied)
        val total = progress.total ?: return context.getString(R.string.import_progress_unknown, progress.name, copied)
        return context.getString(R.string.import_progress, progress.name, copied, Formatter.formatFileSize(context, total))
    }

    fun of(speed: Speed): String {
        val rate = speed.tokensPerSecond ?: return context.getString(R.string.speed_first, speed.tokens)
        return context.getString(R.string.speed, speed.tokens, rate)
    }

    fun of(window: ContextWindow): String {
        val sentence = if (window.unit == WindowUnit.WORDS) R.string.window_words else R.string.window_tokens
        return context.getString(sentence, window.size)
    }

    fun temperature(choice: TokenChoice): String =
        if (choice.temperature == 0f) context.getString(R.string.temperature_greedy) else context.getString(R.string.temperature, choice.temperature)

    fun topK(choice: TokenChoice): String =
        if (choice.topK == 0) context.getString(R.string.top_k_all) else context.getString(R.string.top_k, choice.topK)

    private fun trimmed(message: Message.Trimmed): Int = when {
        message.reason == TrimReason.CONTEXT -> R.string.trimmed_context
        message.unit == WindowUnit.WORDS -> R.string.trimmed_words
        else -> R.string.trimmed_tokens
    }

    private fun headline(error: ModelError): Int = when (error) {
        is ModelError.NotAModel -> R.string.error_not_a_model
        is ModelError.Truncated -> R.string.error_truncated
        is ModelError.WrongDigest -> R.string.error_wrong_digest
        is ModelError.Damaged -> R.string.error_damaged
        is ModelError.NoManifest -> R.string.error_no_manifest
        is ModelError.NewerFormat -> R.string.error_newer_format
        is ModelError.TooLarge -> R.string.error_too_large
        is ModelError.UnsupportedModel -> R.string.error_unsupported_model
        is ModelError.UnsupportedTokenizer -> R.string.error_unsupported_tokenizer
        is ModelError.UnsupportedOperation -> R.string.error_unsupported_operation
        is ModelError.TextTooLong -> R.string.error_text_too_long
        is ModelError.UnsuitableText -> R.string.error_unsuitable_text
        is ModelError.InvalidParameter -> R.string.error_invalid_parameter
        is ModelError.RuntimeFailure -> R.string.error_runtime
        is ModelError.Closed -> R.string.error_closed
    }
}
