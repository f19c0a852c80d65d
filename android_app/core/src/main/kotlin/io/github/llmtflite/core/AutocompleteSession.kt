package io.github.llmtflite.core

import java.io.IOException
import kotlinx.coroutines.CancellationException
import kotlinx.coroutines.CoroutineDispatcher
import kotlinx.coroutines.CoroutineScope
import kotlinx.coroutines.Job
import kotlinx.coroutines.NonCancellable
import kotlinx.coroutines.SupervisorJob
import kotlinx.coroutines.cancel
import kotlinx.coroutines.channels.Channel
import kotlinx.coroutines.flow.Flow
import kotlinx.coroutines.flow.MutableStateFlow
import kotlinx.coroutines.flow.StateFlow
import kotlinx.coroutines.flow.asStateFlow
import kotlinx.coroutines.flow.flowOn
import kotlinx.coroutines.flow.receiveAsFlow
import kotlinx.coroutines.launch
import kotlinx.coroutines.withContext

/**
 * One user's text and model: keeps the state, and does what the reducer asks for.
 *
 * It outlives the screen that shows it. [dispatch] and [close] belong to the thread of [screen]; models run in [work].
 *
 * @param wordList where the user's word list is kept.
 * @param nanoTime a clock for the speed.
 */
class AutocompleteSession(
    initial: AutocompleteState,
    private val library: ModelLibrary,
    private val wordList: WordListFile,
    screen: CoroutineDispatcher,
    private val work: CoroutineDispatcher,
    private val nanoTime: () -> Long = System::nanoTime,
) : AutoCloseable {
    private val scope = CoroutineScope(SupervisorJob() + screen)
    private val mutableState = MutableStateFlow(initial)
    private val clipboardChannel = Channel<String>(Channel.UNLIMITED)
    private var filter: ProfanityFilter? = null
    private var engine: TextEngine? = null
    private var generation: Job? = null
    private var opening: Job? = null

    val state: StateFlow<AutocompleteState> = mutableState.asStateFlow()

    /** Texts for the clipboard. */
    val clipboard: Flow<String> = clipboardChannel.receiveAsFlow()

    /** Reads the word list and the models, and opens the one that was in use or the first. */
    fun start() {
        scope.launch {
            attempt({ dispatch(Event.Told(it)) }) {
                filter = onWork { ProfanityFilter.of(wordList.read()) }
                dispatch(Event.ModelsListed(onWork(library::list)))
            }
        }
    }

    fun dispatch(event: Event) {
        val reduction = AutocompleteReducer.reduce(mutableState.value, event)
        mutableState.value = reduction.state
        reduction.effects.forEach(::perform)
    }

    /** Copies a model into the library through [import], which reports its progress; one import at a time. */
    fun importModel(name: String, import: suspend (report: suspend (ImportProgress) -> Unit) -> ModelChoice) {
        if (mutableState.value.importing != null) return
        dispatch(Event.ImportProgressed(ImportProgress(name, 0, null)))
        scope.launch {
            attempt({ dispatch(Event.ImportRefused(it)) }) {
                val model = onWork {
                    import { progress ->
                        withContext(scope.coroutineContext) { dispatch(Event.ImportProgressed(progress)) }
                    }
                }
                dispatch(Event.ImportEnded(model))
            }
        }
    }

    /** The word list as the user last saved it. */
    fun words(show: (String) -> Unit) {
        scope.launch { attempt({ dispatch(Event.Told(it)) }) { show(onWork(wordList::read)) } }
    }

    /** Ends what runs and frees the model, once the run that it is in has ended. */
    override fun close() {
        val open = engine
        engine = null
        CoroutineScope(work + NonCancellable).launch { open?.close() }
        scope.cancel()
    }

    private fun perform(effect: Effect) {
        when (effect) {
            is Effect.StartGeneration -> {
                generation?.cancel()
                generation = scope.launch { generate(effect) }
            }
            Effect.CancelGeneration -> generation?.cancel()
            is Effect.OpenModel -> {
                opening?.cancel()
                opening = scope.launch { open(effect.id) }
            }
            is Effect.CopyText -> clipboardChannel.trySend(effect.text)
            is Effect.SaveWords -> scope.launch {
                attempt({ dispatch(Event.Told(it)) }) {
                    val edited = onWork { ProfanityFilter.of(effect.list).also { wordList.write(effect.list) } }
                    filter = edited
                    dispatch(Event.WordsSaved(edited.size))
                }
            }
        }
    }

    private suspend fun open(id: String) {
        attempt({ dispatch(Event.ModelRefused(id, it)) }) {
            // Two models may not fit into memory side by side.
            val before = engine
            engine = null
            onWork { before?.close() }
            var opened: TextEngine? = null
            try {
                onWork { opened = library.open(id) }
                engine = opened
            } finally {
                // Cancelled between opening and handing over: nobody else would close it.
                if (engine !== opened) withContext(NonCancellable + work) { opened?.close() }
            }
            dispatch(Event.ModelOpened(id, checkNotNull(engine).info))
        }
    }

    private suspend fun generate(effect: Effect.StartGeneration) {
        val request = effect.request
        val model = engine
        val words = filter
        if (model == null || words == null) return dispatch(Event.Refused(request, Message.NoModel))
        attempt({ dispatch(Event.Refused(request, it)) }) {
            val found = onWork { words.find(effect.text) }
            if (found != null) {
                val word = effect.text.substring(found.start, found.end)
                return@attempt dispatch(Event.Refused(request, Message.TextRefused(word)))
            }
            val windowed = onWork { effect.window.fit(effect.text, model) }
            dispatch(Event.TextWindowed(request, windowed))
            val answer = filteredAnswer(model, effect.text, windowed.text, effect.parameters, words, nanoTime)
            answer.flowOn(work).collect { step ->
                when (step) {
                    is AnswerStep.Text -> dispatch(Event.Written(request, step.text, step.speed))
                    is AnswerStep.End -> dispatch(Event.Ended(request, step.finish))
                    AnswerStep.Refused -> dispatch(Event.Refused(request, Message.AnswerRefused))
                }
            }
        }
    }

    private suspend fun <T> onWork(block: suspend () -> T): T = withContext(work) { block() }

    private suspend fun attempt(refuse: (Message) -> Unit, block: suspend () -> Unit) {
        try {
            block()
        } catch (e: CancellationException) {
            throw e
        } catch (e: ModelError) {
            refuse(Message.Failed(e))
        } catch (e: UnusableEntry) {
            refuse(Message.EntryRefused(e.entry))
        } catch (e: IOException) {
            refuse(Message.Unexpected(e.message ?: e.toString()))
        } catch (e: OutOfMemoryError) {
            refuse(Message.OutOfMemory)
        }
    }
}
