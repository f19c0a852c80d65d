package io.github.llmtflite.core

/**
 * Lets a text that is being written through as far as no listed word can begin in it any more.
 *
 * @param before the text that comes before, which is out already; a word may begin in it.
 */
class StreamGate(filter: ProfanityFilter, before: String = "") {
    private val scan = WordScan(filter.words)
    private val held = StringBuilder()

    // Where the held text begins, counted from the beginning of the text before.
    private var released = before.length

    init {
        scan.push(before)
    }

    /** The listed word that ended the text, or null. Nothing of it is let through that was not out already. */
    val match: Match? get() = scan.match

    /** Reads whole characters and returns what is decided; "" once there is a match. */
    fun push(text: String): String {
        if (match != null) return ""
        held.append(text)
        scan.push(text)
        return release()
    }

    /** What was held back, now that no more text will come; up to the match if the last word is one. */
    fun finish(): String {
        if (match != null) return ""
        scan.finish()
        return release()
    }

    private fun release(): String {
        val count = (scan.undecided - released).coerceIn(0, held.length)
        val text = held.substring(0, count)
        held.delete(0, count)
        released += count
        if (match != null) held.clear()
        return text
    }
}
