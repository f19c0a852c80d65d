package io.github.llmtflite.core

/**
 * Why a model cannot be opened, or a text not be continued.
 *
 * A message is one or two sentences: what was expected, what was found, what to do.
 */
sealed class ModelError(override val message: String, cause: Throwable? = null) : Exception(message, cause) {
    /** The file is neither a `.tflite` nor a `.litertlm` file. */
    class NotAModel(message: String) : ModelError(message)

    /** The file ends before its last section does. */
    class Truncated(message: String) : ModelError(message)

    /** A section's bytes, or the manifest's, are not those that were written. */
    class WrongDigest(message: String) : ModelError(message)

    /** The file contradicts itself. */
    class Damaged(message: String, cause: Throwable? = null) : ModelError(message, cause)

    /** Another program wrote the file, which says nothing of its tokenizer and caches. */
    class NoManifest(message: String) : ModelError(message)

    /** A later version of llm_tflite wrote the file. */
    class NewerFormat(message: String) : ModelError(message)

    /** The file, or what the model needs, is larger than can be mapped. */
    class TooLarge(message: String) : ModelError(message)

    /** The file's layout does not write text, or its graphs are not those that its manifest promises. */
    class UnsupportedModel(message: String) : ModelError(message)

    /** The file's tokenizer has a form that is not read here. */
    class UnsupportedTokenizer(message: String) : ModelError(message)

    /** The runtime lacks operations of the model. */
    class UnsupportedOperation(val operations: List<String>, message: String) : ModelError(message)

    /** The text has more tokens than the model's context. */
    class TextTooLong(val tokens: Int, val limit: Int, message: String) : ModelError(message)

    /** The text cannot be given to the model as it is. */
    class UnsuitableText(message: String) : ModelError(message)

    /** A parameter has a value that no answer could honour. */
    class InvalidParameter(message: String) : ModelError(message)

    /** The runtime failed, or the model's scores are not finite. */
    class RuntimeFailure(message: String, cause: Throwable? = null) : ModelError(message, cause)

    /** The engine was closed. */
    class Closed(message: String) : ModelError(message)
}
