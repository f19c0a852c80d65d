package io.github.llmtflite.app

import android.content.Context
import android.text.Editable
import android.text.InputFilter
import android.text.Spanned
import android.text.TextWatcher
import android.text.style.BackgroundColorSpan
import android.view.Gravity
import android.view.View
import android.widget.Button
import android.widget.EditText
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.RadioGroup
import android.widget.ScrollView
import android.widget.TextView
import io.github.llmtflite.core.AutocompleteReducer
import io.github.llmtflite.core.AutocompleteState
import io.github.llmtflite.core.Event
import io.github.llmtflite.core.Phase
import io.github.llmtflite.core.WindowUnit
import kotlin.math.roundToInt

/** The views: shows a state, and says as events what the user does. */
class MainScreen(context: Context, private val dispatch: (Event) -> Unit, chooseModel: () -> Unit, editWords: () -> Unit) {
    private val sentences = Sentences(context)
    private val padding = context.dp(16)

    private val model: Button = button(context, R.string.model_none, press = chooseModel)
    private val busy = ProgressBar(context, null, android.R.attr.progressBarStyleHorizontal)
    private val activity = TextView(context)
    private val label = TextView(context).apply { setText(R.string.text_label) }
    private val text = EditText(context).apply {
        id = View.generateViewId()
        label.labelFor = id
        setHint(R.string.text_hint)
        minLines = 4
        gravity = Gravity.TOP or Gravity.START
        filters = arrayOf(InputFilter.LengthFilter(LONGEST_TEXT))
        // The session keeps the text.
        isSaveEnabled = false
        addTextChangedListener(
            object : TextWatcher {
                override fun beforeTextChanged(text: CharSequence, start: Int, count: Int, after: Int) = Unit

                override fun onTextChanged(text: CharSequence, start: Int, before: Int, count: Int) = Unit

                override fun afterTextChanged(text: Editable) = dispatch(Event.TextEdited(text.toString()))
            },
        )
    }
    private val suggestionLabel = TextView(context).apply { setText(R.string.suggestion_label) }
    private val suggestion = TextView(context).apply {
        textSize = 18f
        setTextIsSelectable(true)
        setPadding(padding / 2, padding / 2, padding / 2, padding / 2)
        setBackgroundColor(ACCEPTED_COLOR)
    }
    private val message = TextView(context).apply { accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_POLITE }
    private val trimmed = TextView(context).apply { accessibilityLiveRegion = View.ACCESSIBILITY_LIVE_REGION_POLITE }
    private val speed = TextView(context)

    private val generate = button(context, R.string.generate) { dispatch(Event.Generate) }
    private val stop = button(context, R.string.stop) { dispatch(Event.Stop) }
    private val renew = button(context, R.string.new_suggestion) { dispatch(Event.NewSuggestion) }
    private val accept = button(context, R.string.accept, R.string.accept_description) { dispatch(Event.Accept) }
    private val copy = button(context, R.string.copy, R.string.copy_description) { dispatch(Event.Copy) }
    private val clear = button(context, R.string.clear, R.string.clear_description) { dispatch(Event.Clear) }

    private val words = RadioButton(context).apply { setText(R.string.words) }
    private val tokens = RadioButton(context).apply { setText(R.string.tokens) }
    private val unit = RadioGroup(context).apply {
        orientation = RadioGroup.HORIZONTAL
        for (choice in listOf(words, tokens)) {
            choice.id = View.generateViewId()
            choice.minimumHeight = context.dp(48)
            addView(choice)
        }
        setOnCheckedChangeListener { _, id ->
            if (id == words.id) dispatch(Event.WindowUnitChosen(WindowUnit.WORDS))
            if (id == tokens.id) dispatch(Event.WindowUnitChosen(WindowUnit.TOKENS))
        }
    }
    private val window = Slider(context) { dispatch(Event.WindowSizeChosen(it + 1)) }
    private val temperature = Slider(context) { dispatch(Event.TemperatureChosen(it * TEMPERATURE_STEP)) }
    private val topK = Slider(context) { dispatch(Event.TopKChosen(it)) }
    private val wordList = button(context, R.string.word_list, press = editWords)

    val view: View = ScrollView(context).apply {
        fitsSystemWindows = true
        isFillViewport = true
        val content = column(
            context, model, activity, busy, label, text, suggestionLabel, suggestion,
            row(context, generate, stop, renew), row(context, accept, copy, clear),
            message, trimmed, speed, window.view, unit, temperature.view, topK.view, wordList,
        )
        content.setPadding(padding, padding, padding, padding)
        addView(content)
    }

    fun show(state: AutocompleteState) {
        showModel(state)
        showText(state)
        showSuggestion(state)
        message.say(state.message?.let(sentences::of))
        trimmed.say(state.trimmed?.let(sentences::of))
        speed.say(state.speed?.let(sentences::of))
        generate.isEnabled = state.canGenerate
        stop.isEnabled = state.canStop
        renew.isEnabled = state.canRenew
        accept.isEnabled = state.canAccept
        copy.isEnabled = state.canCopy
        clear.isEnabled = state.canClear
        showSettings(state)
    }

    private fun showModel(state: AutocompleteState) {
        val context = model.context
        val chosen = state.models.find { it.id == state.chosen }
        val name = chosen?.let(sentences::of) ?: context.getString(R.string.model_none)
        model.say(context.getString(R.string.model, name))
        val importing = state.importing
        activity.say(
            when {
                importing != null -> sentences.of(importing)
                state.phase == Phase.OPENING -> context.getString(R.string.model_opening)
                state.phase == Phase.GENERATING -> context.getString(R.string.generating)
                else -> null
            },
        )
        val total = importing?.total
        busy.visibility = if (activity.visibility == View.VISIBLE) View.VISIBLE else View.INVISIBLE
        busy.isIndeterminate = total == null || total == 0L
        if (importing != null && total != null && total > 0) busy.progress = (100 * importing.copied / total).toInt()
    }

    private fun showText(state: AutocompleteState) {
        if (text.text.toString() != state.text) {
            text.setText(state.text)
            text.setSelection(text.length())
        }
        val shown = text.text
        shown.getSpans(0, shown.length, Accepted::class.java).forEach(shown::removeSpan)
        for (span in state.accepted.filter { it.end <= shown.length }) {
            shown.setSpan(Accepted(), span.start, span.end, Spanned.SPAN_EXCLUSIVE_EXCLUSIVE)
        }
    }

    private fun showSuggestion(state: AutocompleteState) {
        // Read aloud once it is whole; word by word would never come to an end.
        suggestion.accessibilityLiveRegion =
            if (state.phase == Phase.GENERATING) View.ACCESSIBILITY_LIVE_REGION_NONE else View.ACCESSIBILITY_LIVE_REGION_POLITE
        suggestionLabel.visibility = if (state.suggestion.isEmpty()) View.GONE else View.VISIBLE
        suggestion.say(state.suggestion)
    }

    private fun showSettings(state: AutocompleteState) {
        window.show(sentences.of(state.window), state.window.size - 1, state.windowLimit - 1, state.opened != null)
        unit.check(if (state.windowUnit == WindowUnit.WORDS) words.id else tokens.id)
        val choice = state.opened?.fixedChoice ?: state.choice
        val steps = (AutocompleteReducer.MAX_TEMPERATURE / TEMPERATURE_STEP).roundToInt()
        val step = (choice.temperature / TEMPERATURE_STEP).roundToInt()
        temperature.show(sentences.temperature(choice), step, steps, state.canChooseTokens)
        topK.show(sentences.topK(choice), choice.topK, AutocompleteReducer.MAX_TOP_K, state.canChooseTokens)
    }

    /** Marks accepted suggestions. */
    private class Accepted : BackgroundColorSpan(ACCEPTED_COLOR)

    private companion object {
        const val LONGEST_TEXT = 100_000
        const val TEMPERATURE_STEP = 0.05f

        // A see-through blue, which leaves both themes' text with its contrast.
        const val ACCEPTED_COLOR = 0x3362B6CB
    }
}
