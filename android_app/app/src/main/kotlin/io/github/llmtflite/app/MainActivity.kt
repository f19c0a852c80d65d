package io.github.llmtflite.app

import android.app.Activity
import android.app.AlertDialog
import android.content.ActivityNotFoundException
import android.content.ClipData
import android.content.ClipboardManager
import android.content.Context
import android.content.Intent
import android.os.Bundle
import android.os.Handler
import android.os.Looper
import android.text.InputType
import android.widget.EditText
import io.github.llmtflite.core.AutocompleteSession
import io.github.llmtflite.core.AutocompleteState
import io.github.llmtflite.core.Event
import io.github.llmtflite.core.Message
import io.github.llmtflite.core.ModelStore
import io.github.llmtflite.core.ProfanityFilter
import io.github.llmtflite.core.SavedState
import io.github.llmtflite.core.WordListFile
import java.io.File
import java.util.concurrent.Executor
import kotlin.random.Random
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Dispatchers
import kotlinx.coroutines.asCoroutineDispatcher
import kotlinx.coroutines.cancel
import kotlinx.coroutines.launch

/** The one screen: shows the session's state and hands the user's events to it. */
class MainActivity : Activity() {
    /** What a rotation does not end: a running answer goes on. */
    private class Retained(val session: AutocompleteSession, val store: ModelStore)

    private val main: CoroutineDispatcher = Handler(Looper.getMainLooper()).let { handler ->
        Executor { handler.post(it) }.asCoroutineDispatcher()
    }
    private val scope = CoroutineScope(main)
    private lateinit var retained: Retained
    private val session get() = retained.session

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        retained = lastNonConfigurationInstance as Retained? ?: begin(savedInstanceState)
        val screen = MainScreen(this, session::dispatch, ::chooseModel, ::editWords)
        setContentView(screen.view)
        scope.launch { session.state.collect(screen::show) }
        scope.launch { session.clipboard.collect(::copy) }
    }

    override fun onRetainNonConfigurationInstance(): Any = retained

    override fun onSaveInstanceState(outState: Bundle) {
        super.onSaveInstanceState(outState)
        outState.putByteArray(STATE, SavedState.write(session.state.value))
    }

    override fun onDestroy() {
        super.onDestroy()
        scope.cancel()
        if (!isChangingConfigurations) session.close()
    }

    override fun onActivityResult(requestCode: Int, resultCode: Int, data: Intent?) {
        super.onActivityResult(requestCode, resultCode, data)
        val uri = data?.data
        if (requestCode != IMPORT || resultCode != RESULT_OK || uri == null) return
        // What outlives this screen must not hold it.
        val resolver = applicationContext.contentResolver
        val store = retained.store
        session.importModel(uri.lastPathSegment.orEmpty()) { report -> DocumentFile(resolver, uri).importInto(store, report) }
    }

    private fun begin(saved: Bundle?): Retained {
        val threads = Runtime.getRuntime().availableProcessors().coerceIn(1, MOST_THREADS)
        val assets = applicationContext.assets
        val store = ModelStore(File(filesDir, "models"), AssetModel.all(assets), LiteRtRuntime(), threads)
        val state = saved?.getByteArray(STATE)?.let(SavedState::read)
            ?: AutocompleteState(seed = Random.nextInt(1, 1_000_000).toLong())
        val words = WordListFile(File(filesDir, "words.txt"))
        val session = AutocompleteSession(state, store, words, screen = main, work = Dispatchers.IO)
        session.start()
        return Retained(session, store)
    }

    private fun chooseModel() {
        val models = session.state.value.models
        val sentences = Sentences(this)
        AlertDialog.Builder(this)
            .setTitle(R.string.model_choose)
            .setItems(models.map(sentences::of).toTypedArray()) { _, index -> session.dispatch(Event.ModelChosen(models[index].id)) }
            .setPositiveButton(R.string.model_import) { _, _ -> pickFile() }
            .setNegativeButton(R.string.cancel, null)
            .show()
    }

    private fun pickFile() {
        // Models have no type of their own, so every file is offered; what is no model is refused.
        val intent = Intent(Intent.ACTION_OPEN_DOCUMENT).addCategory(Intent.CATEGORY_OPENABLE).setType("*/*")
        try {
            startActivityForResult(intent, IMPORT)
        } catch (e: ActivityNotFoundException) {
            session.dispatch(Event.Told(Message.Unexpected(e.message ?: e.toString())))
        }
    }

    private fun editWords() = session.words { list -> if (!isDestroyed) showWords(list) }

    private fun showWords(list: String) {
        val editor = EditText(this).apply {
            inputType = InputType.TYPE_CLASS_TEXT or InputType.TYPE_TEXT_FLAG_MULTI_LINE or InputType.TYPE_TEXT_FLAG_NO_SUGGESTIONS
            isSingleLine = false
            maxLines = WORD_LIST_LINES
            setText(list)
        }
        val dialog = AlertDialog.Builder(this)
            .setTitle(R.string.word_list)
            .setMessage(R.string.word_list_help)
            .setView(editor)
            .setPositiveButton(R.string.save) { _, _ -> session.dispatch(Event.WordsEdited(editor.text.toString())) }
            .setNeutralButton(R.string.standard_list, null)
            .setNegativeButton(R.string.cancel, null)
            .show()
        // Set here, it leaves the dialog open.
        dialog.getButton(AlertDialog.BUTTON_NEUTRAL).setOnClickListener { editor.setText(ProfanityFilter.standardList()) }
    }

    private fun copy(text: String) {
        val clipboard = getSystemService(Context.CLIPBOARD_SERVICE) as ClipboardManager
        clipboard.setPrimaryClip(ClipData.newPlainText(getText(R.string.app_name), text))
    }

    private companion object {
        const val STATE = "state"
        const val IMPORT = 1
        const val MOST_THREADS = 4
        const val WORD_LIST_LINES = 12
    }
}
