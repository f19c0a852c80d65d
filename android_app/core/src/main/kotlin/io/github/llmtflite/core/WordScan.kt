package io.github.llmtflite.core

/**
 * A listed word in a text.
 *
 * @property entry the word as it stands in the list.
 * @property start index of its first character in the text.
 * @property end index after its last one.
 */
data class Match(val entry: String, val start: Int, val end: Int)

/**
 * Looks for the words of a list, character by character.
 *
 * A match counts as soon as the character after it is known, or the end of the text. The one that ends first wins, of
 * those that end together the one that begins first; so the result does not depend on how the text was cut into pieces.
 */
internal class WordScan(words: WordList) {
    var match: Match? = null
        private set

    /** Index of the first character that may still be part of a match. */
    var undecided = 0
        private set

    private var length = 0
    private val finders: List<Finder> = buildList {
        // As it stands; with digits and signs as letters; and once more with "!" left as it is.
        if (!words.phrases.isLeaf) {
            for (alike in listOf(emptyMap(), LOOK_ALIKES, LOOK_ALIKES - '!'.code)) add(PhraseFinder(words.phrases, alike))
        }
        if (!words.substrings.isLeaf) add(SubstringFinder(words.substrings))
    }

    /** Reads on. */
    fun push(text: String) {
        var index = 0
        while (index < text.length && match == null) {
            val codePoint = text.codePointAt(index)
            val size = Character.charCount(codePoint)
            for (folded in Folding.fold(codePoint)) {
                take(folded, size)
                if (match != null) return
            }
            index += size
            length += size
        }
        undecided = finders.minOfOrNull { it.undecided ?: length } ?: length
    }

    /** Learns that the text ends here. */
    fun finish() {
        if (match != null) return
        take(END_OF_TEXT, 0)
        if (match == null) undecided = length
    }

    private fun take(folded: Int, size: Int) {
        val character = Folded(folded, if (folded == END_OF_TEXT) Folding.Kind.OTHER else Folding.kind(folded))
        val first = finders.flatMap { it.take(character, length, length + size) }.minByOrNull { it.start } ?: return
        match = first
        undecided = first.start
    }

    private companion object {
        val LOOK_ALIKES = mapOf('0' to 'o', '1' to 'i', '3' to 'e', '4' to 'a', '5' to 's', '7' to 't', '@' to 'a', '$' to 's', '!' to 'i')
            .map { (sign, letter) -> sign.code to letter.code }.toMap()
    }
}

/** Not a code point: what follows the last one. */
private const val END_OF_TEXT = -1

private class Folded(val codePoint: Int, val kind: Folding.Kind)

private interface Finder {
    /** Where the earliest match that may still come begins; null if none may. */
    val undecided: Int?

    /** Reads one folded character of the one from [start] to [end]; gives the matches that ended before it. */
    fun take(folded: Folded, start: Int, end: Int): List<Match>
}

/**
 * Finds whole words, in one of the ways in which a text can be read.
 *
 * Where digits and signs are read as letters, signs are parts of words, and a word without any letter stays what it
 * is: 455 is a number.
 */
private class PhraseFinder(private val root: WordList.Node, private val alike: Map<Int, Int>) : Finder {
    /** What was read from [start] on, as a beginning of a phrase; [alike] says how the word in hand is read. */
    private class Candidate(val start: Int, val node: WordList.Node, val alike: Boolean)

    private var candidates = emptyList<Candidate>()
    private var inWord = false
    private var hasLetter = false
    private var wordEnd = 0

    override val undecided: Int? get() = candidates.minOfOrNull { it.start }

    override fun take(folded: Folded, start: Int, end: Int): List<Match> {
        if (folded.kind == Folding.Kind.WORD || folded.codePoint in alike) {
            extend(folded.codePoint, start, end)
            return emptyList()
        }
        return if (inWord) close() else emptyList()
    }

    private fun extend(folded: Int, start: Int, end: Int) {
        if (!inWord) begin(start)
        wordEnd = end
        hasLetter = hasLetter || Folding.isLetter(folded)
        candidates = candidates.mapNotNull { candidate ->
            val read = if (candidate.alike) alike[folded] ?: folded else folded
            candidate.node.child(read)?.let { Candidate(candidate.start, it, candidate.alike) }
        }
    }

    private fun begin(start: Int) {
        inWord = true
        hasLetter = false
        val readings = if (alike.isEmpty()) listOf(false) else listOf(false, true)
        candidates = (candidates + Candidate(start, root, false)).flatMap { candidate ->
            readings.map { Candidate(candidate.start, candidate.node, it) }
        }
    }

    private fun close(): List<Match> {
        inWord = false
        val ended = candidates.filter { alike.isEmpty() || it.alike == hasLetter }.mapNotNull { candidate ->
            candidate.node.child(WordList.END_OF_WORD)?.let { Candidate(candidate.start, it, false) }
        }
        candidates = ended.filter { !it.node.isLeaf }
        return ended.mapNotNull { ended -> ended.node.entry?.let { Match(it, ended.start, wordEnd) } }
    }
}

/** Finds entries anywhere in the text, for scripts without spaces. */
private class SubstringFinder(private val root: WordList.Node) : Finder {
    private class Candidate(val start: Int, val node: WordList.Node)

    private var candidates = emptyList<Candidate>()
    private var lastEnd = 0

    override val undecided: Int? get() = candidates.minOfOrNull { it.start }

    override fun take(folded: Folded, start: Int, end: Int): List<Match> {
        val whole = folded.codePoint == END_OF_TEXT || !Folding.continuesCharacter(folded.codePoint)
        val found = if (!whole) {
            emptyList()
        } else {
            candidates.mapNotNull { candidate -> candidate.node.entry?.let { Match(it, candidate.start, lastEnd) } }
        }
        candidates = (candidates + Candidate(start, root)).mapNotNull { candidate ->
            candidate.node.child(folded.codePoint)?.let { Candidate(candidate.start, it) }
        }
        lastEnd = end
        return found
    }
}
