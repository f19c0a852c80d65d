package io.github.llmtflite.core

/** An entry that would match nothing, because it has no letter and no digit. */
class UnusableEntry(val entry: String) :
    IllegalArgumentException("an entry of the word list must have a letter or a digit; got \"$entry\": remove that line")

/** Words and phrases that shall not appear, folded, as the scan looks for them. */
internal class WordList(entries: Collection<String>) {
    /** A place in the tree of all entries: what can follow, and the entry that ends here. */
    class Node {
        private val next = HashMap<Int, Node>()
        var entry: String? = null

        fun child(codePoint: Int): Node? = next[codePoint]

        fun grow(codePoint: Int): Node = next.getOrPut(codePoint) { Node() }

        val isLeaf: Boolean get() = next.isEmpty()
    }

    /** Whole words, with [END_OF_WORD] after each. */
    val phrases = Node()

    /** Entries in scripts without spaces, which match anywhere. */
    val substrings = Node()

    init {
        entries.forEach(::add)
    }

    private fun add(entry: String) {
        val folded = trimmed(Folding.fold(entry))
        if (folded.any { Folding.kind(it) == Folding.Kind.UNSPACED }) {
            insert(substrings, folded, entry)
            return
        }
        val words = ArrayList<Int>()
        for (codePoint in folded) {
            if (Folding.kind(codePoint) == Folding.Kind.WORD) {
                words.add(codePoint)
            } else if (words.isNotEmpty() && words.last() != END_OF_WORD) {
                words.add(END_OF_WORD)
            }
        }
        if (words.isEmpty()) throw UnusableEntry(entry)
        if (words.last() != END_OF_WORD) words.add(END_OF_WORD)
        insert(phrases, words, entry)
    }

    private fun insert(root: Node, folded: List<Int>, entry: String) {
        val end = folded.fold(root) { node, codePoint -> node.grow(codePoint) }
        // Of two entries that fold alike, the first counts.
        if (end.entry == null) end.entry = entry
    }

    private fun trimmed(folded: IntArray): List<Int> =
        folded.toList().dropWhile(::isSpace).dropLastWhile(::isSpace)

    companion object {
        /** Between the words of a phrase; no word has it. */
        const val END_OF_WORD = 0

        /** The entries of a list: one on each line; `#` begins a comment. */
        fun parse(text: String): List<String> =
            text.removePrefix("\uFEFF").lineSequence().map { it.substringBefore('#').trim() }.filter { it.isNotEmpty() }.toList()
    }
}
