package io.github.llmtflite.core

/** JSON as it was read: maps in order, lists, strings, longs, doubles, booleans and null. */
internal class Json private constructor(private val value: Any?, private val where: String) {
    val isList: Boolean get() = value is List<*>

    val keys: Set<String> get() = members().keys

    /** A member that has to be there. */
    operator fun get(key: String): Json {
        val members = members()
        if (key !in members) throw JsonException("$where lacks \"$key\"")
        return Json(members[key], "$where.$key")
    }

    /** A member, or null where it is absent or null. */
    fun find(key: String): Json? = members()[key]?.let { Json(it, "$where.$key") }

    fun list(): List<Json> = typed<List<Any?>>("a list").mapIndexed { i, item -> Json(item, "$where[$i]") }

    fun text(): String = typed("text")

    fun flag(): Boolean = typed("true or false")

    fun long(): Long = typed("a whole number")

    fun double(): Double = (value as? Number)?.toDouble() ?: throw JsonException("expected a number as $where")

    /** A whole number of 0 or more. */
    fun int(): Int {
        val number = long()
        if (number !in 0..Int.MAX_VALUE) throw JsonException("expected $where inside 0..${Int.MAX_VALUE}; it is $number")
        return number.toInt()
    }

    private fun members(): Map<String, Any?> = typed("an object")

    private inline fun <reified T> typed(expected: String): T =
        value as? T ?: throw JsonException("expected $expected as $where; it is ${value.toString().take(40)}")

    companion object {
        /** @throws JsonException it is not JSON. */
        fun parse(text: String): Json = Json(JsonParser(text).document(), "it")

        /** Where the member [key] of the outermost object stands in [text], the comma behind it included. */
        fun memberSpan(text: String, key: String): IntRange? {
            val parser = JsonParser(text)
            parser.document()
            return parser.memberSpans[key]
        }
    }
}

internal class JsonException(message: String) : Exception(message)

private class JsonParser(private val text: String) {
    val memberSpans = HashMap<String, IntRange>()
    private var at = 0
    private var depth = 0

    fun document(): Any? {
        val value = value()
        skipSpace()
        if (at != text.length) fail("expected nothing behind the value")
        return value
    }

    private fun value(): Any? {
        skipSpace()
        return when (val c = peek()) {
            '{' -> nested { members() }
            '[' -> nested { items() }
            '"' -> string()
            't' -> literal("true", true)
            'f' -> literal("false", false)
            'n' -> literal("null", null)
            else -> if (c == '-' || c in '0'..'9') number() else fail("expected a value")
        }
    }

    private fun <T> nested(read: () -> T): T {
        if (++depth > MAX_DEPTH) fail("expected at most $MAX_DEPTH levels")
        at++
        return read().also { depth-- }
    }

    private fun members(): Map<String, Any?> {
        val members = LinkedHashMap<String, Any?>()
        if (skip('}')) return members
        do {
            skipSpace()
            val begin = at
            val key = string()
            if (!skip(':')) fail("expected a colon")
            if (key in members) fail("the key \"$key\" appears twice")
            members[key] = value()
            val more = skip(',')
            if (depth == 1) memberSpans[key] = begin until at
        } while (more)
        if (!skip('}')) fail("expected a comma or the end of an object")
        return members
    }

    private fun items(): List<Any?> {
        val items = ArrayList<Any?>()
        if (skip(']')) return items
        do items.add(value()) while (skip(','))
        if (!skip(']')) fail("expected a comma or the end of a list")
        return items
    }

    private fun string(): String {
        if (peek() != '"') fail("expected text")
        at++
        val result = StringBuilder()
        while (true) {
            val c = peek()
            at++
            when {
                c == '"' -> return result.toString()
                c == '\\' -> result.append(escape())
                c < ' ' -> fail("a control character inside text")
                else -> result.append(c)
            }
        }
    }

    private fun escape(): Char {
        val c = peek()
        at++
        return when (c) {
            '"', '\\', '/' -> c
            'b' -> '\b'
            'f' -> '\u000C'
            'n' -> '\n'
            'r' -> '\r'
            't' -> '\t'
            'u' -> {
                at += 4
                val digits = if (at <= text.length) text.substring(at - 4, at) else ""
                digits.toIntOrNull(16)?.toChar() ?: fail("expected four hexadecimal digits")
            }
            else -> fail("an unknown escape")
        }
    }

    private fun number(): Number {
        val begin = at
        while (at < text.length && text[at] in "+-.0123456789Ee") at++
        val digits = text.substring(begin, at)
        return digits.toLongOrNull() ?: digits.toDoubleOrNull() ?: fail("not a number")
    }

    private fun literal(word: String, value: Any?): Any? {
        if (!text.startsWith(word, at)) fail("expected $word")
        at += word.length
        return value
    }

    private fun skip(c: Char): Boolean {
        skipSpace()
        if (at >= text.length || text[at] != c) return false
        at++
        return true
    }

    private fun skipSpace() {
        while (at < text.length && text[at] in " \t\r\n") at++
    }

    private fun peek(): Char = if (at < text.length) text[at] else fail("the text ends too early")

    private fun fail(what: String): Nothing = throw JsonException("$what at character $at")

    private companion object {
        const val MAX_DEPTH = 200
    }
}
