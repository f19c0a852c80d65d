package io.github.llmtflite.core

import java.nio.ByteBuffer

/** What a `.tflite` model says of its signatures. */
object SignatureOutputs {
    private const val MODEL_SIGNATURES = 7
    private const val SIGNATURE_OUTPUTS = 1
    private const val SIGNATURE_NAME = 2
    private const val ENTRY_NAME = 0
    private const val MAX_SIGNATURES = 4096

    /**
     * The names of each signature's outputs, in the order of the file.
     *
     * TFLite's C API counts the outputs of the graph, which may be more, and ends the process where one of the
     * others is asked for its name.
     *
     * @throws ModelError.Truncated the model was cut or altered.
     */
    fun names(model: ByteBuffer): Map<String, List<String>> =
        FlatBuffer(model).root().tables(MODEL_SIGNATURES, MAX_SIGNATURES).associate { signature ->
            signature.text(SIGNATURE_NAME) to signature.tables(SIGNATURE_OUTPUTS, MAX_SIGNATURES).map { it.text(ENTRY_NAME) }
        }
}
