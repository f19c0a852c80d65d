package io.github.llmtflite.core

import java.nio.ByteBuffer

/** The operations of a model that a runtime lacks: as the model says before it is opened, and as runtimes say. */
object MissingOperations {
    private const val MODEL_CODES = 1
    private const val CODE_CUSTOM = 1
    private const val MAX_CODES = 4096

    // The runtime has no codes for its errors, only words.
    private val WORDS = Regex(
        "op for builtin opcode '([^']+)'|unresolved custom op: (\\S+)|\\((Flex\\w+)\\)|Op builtin_code out of range: (\\d+)",
    )

    /**
     * The names of a model's custom operations; those that begin with `Flex` are TensorFlow's.
     *
     * TFLite opens a model with custom operations that it lacks and fails when it is run.
     *
     * @throws ModelError.Truncated the model was cut or altered.
     */
    fun customIn(model: ByteBuffer): List<String> =
        FlatBuffer(model).root().tables(MODEL_CODES, MAX_CODES).map { it.text(CODE_CUSTOM) }.filter { it.isNotEmpty() }.distinct()

    /** The operations that TFLite says it lacks. */
    fun toldIn(message: String): List<String> =
        WORDS.findAll(message).map { it.groupValues.last(String::isNotEmpty).trimEnd('.') }.distinct().toList()

    /** The error of a model with these operations. */
    fun error(operations: List<String>): ModelError = ModelError.UnsupportedOperation(
        operations,
        "The model has operations that this runtime lacks: ${operations.joinToString()}. " +
            "Convert it with builtin operations only, or use a newer runtime.",
    )
}
