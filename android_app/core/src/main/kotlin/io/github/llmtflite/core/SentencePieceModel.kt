package io.github.llmtflite.core

import java.nio.BufferUnderflowException
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** What a SentencePiece model says; fields as in `sentencepiece_model.proto` of github.com/google/sentencepiece. */
internal class SentencePieceModel(
    val pieces: List<Piece>,
    val unigram: Boolean,
    val byteFallback: Boolean,
    val unknownSurface: String,
    val addDummyPrefix: Boolean,
    val removeExtraWhitespaces: Boolean,
) {
    enum class Kind { NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE }

    class Piece(val text: String, val score: Float, val kind: Kind)

    companion object {
        private const val UNIGRAM = 1
        private const val BPE = 2
        private val KINDS = mapOf(
            1 to Kind.NORMAL, 2 to Kind.UNKNOWN, 3 to Kind.CONTROL, 4 to Kind.USER_DEFINED, 5 to Kind.UNUSED, 6 to Kind.BYTE,
        )

        fun read(bytes: ByteArray): SentencePieceModel {
            try {
                return decode(bytes)
            } catch (e: BufferUnderflowException) {
                throw ModelError.Damaged("The tokenizer ends in the middle of a field.", e)
            }
        }

        private fun decode(bytes: ByteArray): SentencePieceModel {
            val pieces = ArrayList<Piece>()
            val trainer = Fields()
            val normalizer = Fields()
            for (field in ProtoReader(bytes)) {
                when (field.number) {
                    1 -> pieces += piece(field.bytes)
                    2 -> trainer.addAll(field.bytes)
                    3 -> normalizer.addAll(field.bytes)
                }
            }
            if (pieces.isEmpty()) throw ModelError.Damaged("The tokenizer has no pieces.")
            val type = trainer.number(3) ?: UNIGRAM.toLong()
            if (type != UNIGRAM.toLong() && type != BPE.toLong()) {
                unsupported("a SentencePiece model of type $type (words or characters); unigram and BPE are supported")
            }
            if (normalizer.bytes(2)?.isNotEmpty() == true) {
                unsupported("the SentencePiece normalizer ${normalizer.text(1)}; \"identity\" is supported")
            }
            if (normalizer.number(5) == 0L) unsupported("a SentencePiece model that does not escape white space")
            if (trainer.number(24) == 1L) unsupported("a SentencePiece model with white space as a suffix")
            return SentencePieceModel(
                pieces,
                unigram = type == UNIGRAM.toLong(),
                byteFallback = trainer.number(35) == 1L,
                unknownSurface = trainer.text(44) ?: " \u2047 ",
                addDummyPrefix = normalizer.number(3) != 0L,
                removeExtraWhitespaces = normalizer.number(4) != 0L,
            )
        }

        private fun piece(bytes: ByteArray): Piece {
            val fields = Fields().also { it.addAll(bytes) }
            val kind = (fields.number(3) ?: 1).toInt()
            return Piece(
                fields.text(1).orEmpty(),
                Float.fromBits((fields.number(2) ?: 0).toInt()),
                KINDS[kind] ?: throw ModelError.Damaged("The tokenizer has a piece of the unknown type $kind."),
            )
        }

        private fun unsupported(what: String): Nothing = throw ModelError.UnsupportedTokenizer("The tokenizer is $what.")
    }
}

/** The last value of each field of a message. */
private class Fields {
    private val fields = HashMap<Int, ProtoField>()

    fun addAll(message: ByteArray) {
        for (field in ProtoReader(message)) fields[field.number] = field
    }

    fun number(field: Int): Long? = fields[field]?.value

    fun bytes(field: Int): ByteArray? = fields[field]?.bytes

    fun text(field: Int): String? = bytes(field)?.toString(Charsets.UTF_8)
}

/** One field on the wire: a number, or bytes. */
private class ProtoField(val number: Int, val value: Long, val bytes: ByteArray)

/** The fields of a message. Format: https://protobuf.dev/programming-guides/encoding. */
private class ProtoReader(message: ByteArray) : Iterator<ProtoField> {
    private val buffer = ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN)

    override fun hasNext(): Boolean = buffer.hasRemaining()

    override fun next(): ProtoField {
        val key = varint()
        val number = (key ushr 3).toInt()
        return when (val wire = (key and 7).toInt()) {
            0 -> ProtoField(number, varint(), NOTHING)
            1 -> ProtoField(number, buffer.long, NOTHING)
            2 -> {
                val size = varint()
                if (size !in 0..buffer.remaining()) throw BufferUnderflowException()
                ProtoField(number, 0, ByteArray(size.toInt()).also { buffer.get(it) })
            }
            5 -> ProtoField(number, buffer.int.toLong(), NOTHING)
            else -> throw ModelError.Damaged("The tokenizer has a field of the unknown wire type $wire.")
        }
    }

    private fun varint(): Long {
        var value = 0L
        for (shift in 0..63 step 7) {
            val byte = buffer.get().toLong()
            value = value or ((byte and 0x7F) shl shift)
            if (byte >= 0) return value
        }
        throw ModelError.Damaged("The tokenizer has a number of more than 64 bits.")
    }

    private companion object {
        val NOTHING = ByteArray(0)
    }
}

private operator fun ProtoReader.iterator(): Iterator<ProtoField> = this
