package io.github.llmtflite.core

/**
 * Finds words that shall not appear, however they are written: case, accents, hidden characters and digits or signs
 * in place of letters do not hide a word, and a word inside of another is not found.
 *
 * One reading of the text finds any of thousands of entries.
 *
 * @param entries words and phrases; an empty list refuses nothing.
 * @throws UnusableEntry an entry has no letter and no digit.
 */
class ProfanityFilter(private val entries: List<String>) {
    internal val words = WordList(entries)

    /** How many entries there are. */
    val size: Int get() = entries.size

    /** The first listed word of [text], or null. */
    fun find(text: String): Match? {
        val scan = WordScan(words)
        scan.push(text)
        scan.finish()
        return scan.match
    }

    companion object {
        /** The filter of a [list] with one entry on each line; `#` begins a comment. */
        fun of(list: String): ProfanityFilter = ProfanityFilter(WordList.parse(list))

        /** The list that comes with the library; the Python library has the same. */
        fun standardList(): String {
            val name = "profanity_words.txt"
            val stream = checkNotNull(ProfanityFilter::class.java.getResourceAsStream(name)) {
                "the resource $name was expected beside ${ProfanityFilter::class.java.name}; build core with its resources"
            }
            return stream.use { it.readBytes().decodeToString() }
        }
    }
}
