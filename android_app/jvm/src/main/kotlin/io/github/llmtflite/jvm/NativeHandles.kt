package io.github.llmtflite.jvm

import com.sun.jna.Pointer
import java.util.concurrent.atomic.AtomicInteger

/** Counts what was made by the native library and not yet freed. */
object NativeHandles {
    private val count = AtomicInteger()

    /** How many models, options, interpreters and runners are open, in the whole process. */
    val live: Int get() = count.get()

    internal fun opened(handle: Pointer): NativeHandle {
        count.incrementAndGet()
        return NativeHandle(handle)
    }

    internal fun freed() {
        count.decrementAndGet()
    }
}

/** One thing that the native library made. */
internal class NativeHandle(private var pointer: Pointer?) {
    fun get(): Pointer = checkNotNull(pointer) { "it was closed" }

    /** Frees it, the first time. */
    fun free(delete: (Pointer) -> Unit) {
        val open = pointer ?: return
        pointer = null
        delete(open)
        NativeHandles.freed()
    }
}
