package io.github.llmtflite.app

import android.content.Context
import android.view.View
import android.view.ViewGroup.LayoutParams.MATCH_PARENT
import android.view.ViewGroup.LayoutParams.WRAP_CONTENT
import android.widget.Button
import android.widget.LinearLayout
import android.widget.SeekBar
import android.widget.TextView

internal fun Context.dp(size: Int): Int = (size * resources.displayMetrics.density).toInt()

internal fun column(context: Context, vararg views: View): LinearLayout = LinearLayout(context).apply {
    orientation = LinearLayout.VERTICAL
    views.forEach { addView(it, LinearLayout.LayoutParams(MATCH_PARENT, WRAP_CONTENT)) }
}

/** Views of the same width beside one another. */
internal fun row(context: Context, vararg views: View): LinearLayout = LinearLayout(context).apply {
    orientation = LinearLayout.HORIZONTAL
    isBaselineAligned = true
    views.forEach { addView(it, LinearLayout.LayoutParams(0, WRAP_CONTENT, 1f)) }
}

internal fun button(context: Context, text: Int, description: Int? = null, press: () -> Unit): Button = Button(context).apply {
    setText(text)
    isAllCaps = false
    minHeight = context.dp(48)
    description?.let { contentDescription = context.getText(it) }
    setOnClickListener { press() }
}

/** Shows nothing at all where there is nothing to say. */
internal fun TextView.say(sentence: String?) {
    if (text.toString() != sentence.orEmpty()) text = sentence.orEmpty()
    visibility = if (sentence.isNullOrEmpty()) View.GONE else View.VISIBLE
}

/** A label and the slider that it speaks of. */
internal class Slider(context: Context, private val slid: (Int) -> Unit) {
    private val label = TextView(context)
    private val bar = SeekBar(context).apply {
        minimumHeight = context.dp(48)
        setOnSeekBarChangeListener(
            object : SeekBar.OnSeekBarChangeListener {
                override fun onProgressChanged(bar: SeekBar, progress: Int, fromUser: Boolean) {
                    if (fromUser) slid(progress)
                }

                override fun onStartTrackingTouch(bar: SeekBar) = Unit

                override fun onStopTrackingTouch(bar: SeekBar) = Unit
            },
        )
    }
    val view: View = column(context, label, bar)

    fun show(sentence: String, position: Int, last: Int, enabled: Boolean) {
        label.say(sentence)
        bar.contentDescription = sentence
        bar.isEnabled = enabled
        if (bar.max != last) bar.max = last
        if (bar.progress != position) bar.progress = position
    }
}
