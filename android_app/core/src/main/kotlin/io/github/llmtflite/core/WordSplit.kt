package io.github.llmtflite.core

import java.util.regex.Pattern

/** How a text is cut into the words that byte pairs do not cross; the pieces joined are the text. */
internal sealed interface WordSplit {
    fun split(text: String): List<String>

    /** Each occurrence of a text is a word, and so is what stands between two. */
    class Literal(private val word: String) : WordSplit {
        override fun split(text: String): List<String> {
            if (word.isEmpty()) return listOf(text)
            val pieces = ArrayList<String>()
            var from = 0
            while (true) {
                val found = text.indexOf(word, from)
                if (found < 0) break
                if (found > from) pieces += text.substring(from, found)
                pieces += word
                from = found + word.length
            }
            if (from < text.length) pieces += text.substring(from)
            return pieces
        }
    }

    /** The same for what a regular expression finds. */
    class Expression(private val pattern: Pattern) : WordSplit {
        override fun split(text: String): List<String> {
            val pieces = ArrayList<String>()
            val matcher = pattern.matcher(text)
            var from = 0
            while (matcher.find()) {
                if (matcher.end() == matcher.start()) continue
                if (matcher.start() > from) pieces += text.substring(from, matcher.start())
                pieces += matcher.group()
                from = matcher.end()
            }
            if (from < text.length) pieces += text.substring(from)
            return pieces
        }
    }

    companion object {
        private const val CONTRACTIONS = "'s|'t|'re|'ve|'m|'ll|'d"
        private const val YOUNGER_END = "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
        private const val YOUNGER_BEGIN = "(?i:$CONTRACTIONS)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|"

        /** GPT-2's expression, which the ByteLevel form of a `tokenizer.json` uses without saying so. */
        const val GPT2 = "$CONTRACTIONS| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

        /** Those of Llama 3 and Qwen 2; as `llm_tflite/split_regexes.py`. */
        private val KNOWN = setOf(GPT2, "$YOUNGER_BEGIN\\p{N}{1,3}$YOUNGER_END", "$YOUNGER_BEGIN\\p{N}$YOUNGER_END")

        // What they mean by \s, by ignoring case and by a line's end differs between Java's, Android's and
        // Oniguruma's engines, so it is spelled out.
        private const val SPACE = "\\t-\\r \\u0085\\u00A0\\u1680\\u2000-\\u200A\\u2028\\u2029\\u202F\\u205F\\u3000"
        private const val ANY_CASE = "'[sS\\u017F]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]"

        /**
         * Reads a published regular expression.
         *
         * @throws ModelError.UnsupportedTokenizer it is not one of those whose words are known to be the same here.
         */
        fun of(expression: String): WordSplit {
            if (expression !in KNOWN) {
                throw ModelError.UnsupportedTokenizer(
                    "The tokenizer cuts text by the expression $expression, which is not supported; those of " +
                        "GPT-2, Llama 3 and Qwen 2 are.",
                )
            }
            val spelled = expression
                .replace("(?i:$CONTRACTIONS)", "(?:$ANY_CASE)")
                .replace("[^\\s", "[^$SPACE")
                .replace("\\s", "[$SPACE]")
                .replace("\\S", "[^$SPACE]")
            return Expression(Pattern.compile(spelled))
        }
    }
}
