package io.github.llmtflite.core

import java.text.Normalizer
import java.util.Locale

/**
 * What two spellings of a word have in common: letters without case, accents or hidden characters.
 *
 * Each character is folded by itself, so a text folds the same in one piece and in many.
 */
internal object Folding {
    enum class Kind {
        /** Part of a word, which ends where the next character is of another kind. */
        WORD,

        /** Part of a text in a script without spaces. */
        UNSPACED,
        OTHER,
    }

    private val LETTERS = setOf(
        Character.UPPERCASE_LETTER,
        Character.LOWERCASE_LETTER,
        Character.TITLECASE_LETTER,
        Character.MODIFIER_LETTER,
        Character.OTHER_LETTER,
    )
    private val NUMBERS = setOf(Character.DECIMAL_DIGIT_NUMBER, Character.LETTER_NUMBER, Character.OTHER_NUMBER)
    private val MARKS = setOf(Character.NON_SPACING_MARK, Character.ENCLOSING_MARK, Character.COMBINING_SPACING_MARK)

    // Marks that are vowels or voice a consonant, from Devanagari to Tibetan and Myanmar, in Khmer and in kana:
    // without them, other words would be left.
    private val SPELLING_MARKS = listOf(0x0900..0x109F, 0x1780..0x17FF, 0x3099..0x309A)

    private val SCRIPTS_WITHOUT_SPACES = listOf(
        0x0E00..0x0EFF, // Thai, Lao
        0x1000..0x109F, // Myanmar
        0x1100..0x11FF, // Hangul, as compatibility decomposition leaves it
        0x1780..0x17FF, // Khmer
        0x19E0..0x19FF,
        0x2E80..0x2FDF, // Han radicals
        0x3005..0x3007,
        0x3021..0x3029,
        0x3038..0x303B,
        0x3041..0x309F, // Hiragana
        0x30A1..0x30FF, // Katakana
        0x31F0..0x31FF,
        0x3400..0x4DBF, // Han
        0x4E00..0x9FFF,
        0xA960..0xA97F, // old Hangul
        0xA9E0..0xA9FF, // Myanmar
        0xAA60..0xAA7F,
        0xAC00..0xD7FF,
        0xF900..0xFAFF,
        0x20000..0x323AF,
    )

    /** What is left of one character: often one, none of an accent, several of a ligature. */
    fun fold(codePoint: Int): IntArray = when (codePoint) {
        in 'A'.code..'Z'.code -> intArrayOf(codePoint + ('a' - 'A'))
        in 0..0x7F -> intArrayOf(codePoint)
        else -> decomposed(codePoint)
    }

    fun fold(text: String): IntArray = text.codePoints().toArray().flatMap { fold(it).asList() }.toIntArray()

    fun kind(folded: Int): Kind = when {
        type(folded) !in LETTERS && type(folded) !in NUMBERS && type(folded) !in MARKS -> Kind.OTHER
        SCRIPTS_WITHOUT_SPACES.any { folded in it } -> Kind.UNSPACED
        else -> Kind.WORD
    }

    /** Whether it is a letter and not, say, a digit. */
    fun isLetter(folded: Int): Boolean = type(folded) in LETTERS

    /** Whether it belongs to the character before it: a mark, or the rest of a Hangul syllable. */
    fun continuesCharacter(folded: Int): Boolean = type(folded) in MARKS || folded in 0x1160..0x11FF

    private fun decomposed(codePoint: Int): IntArray {
        // A half of a surrogate pair is no character, and some normalizers refuse it.
        if (codePoint in 0xD800..0xDFFF) return intArrayOf(codePoint)
        val lower = compatible(String(Character.toChars(codePoint))).lowercase(Locale.ROOT)
        val folded = ArrayList<Int>(2)
        for (part in compatible(lower).codePoints()) {
            when {
                isDropped(part) -> continue
                part == 'ß'.code -> repeat(2) { folded.add('s'.code) }
                part == 'ς'.code -> folded.add('σ'.code)
                part == 'ı'.code -> folded.add('i'.code)
                else -> folded.add(part)
            }
        }
        return folded.toIntArray()
    }

    private fun compatible(text: String): String = Normalizer.normalize(text, Normalizer.Form.NFKD)

    private fun isDropped(codePoint: Int): Boolean = when (type(codePoint)) {
        Character.FORMAT -> true
        Character.NON_SPACING_MARK, Character.ENCLOSING_MARK -> SPELLING_MARKS.none { codePoint in it }
        else -> false
    }

    private fun type(codePoint: Int): Byte = Character.getType(codePoint).toByte()
}
