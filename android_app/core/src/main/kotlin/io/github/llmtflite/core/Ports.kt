package io.github.llmtflite.core

import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Types that the tensors of our files have; [OTHER] is any that none of them takes. */
enum class TensorType(val bytes: Int) {
    FLOAT32(4),
    FLOAT16(2),
    INT32(4),
    INT64(8),
    INT8(1),
    UINT8(1),
    BOOL(1),
    OTHER(0),
}

/** One input or output; -1 in [shape] is a dimension that the caller chooses. */
data class TensorInfo(val name: String, val type: TensorType, val shape: List<Int>)

/**
 * What one entry point of a model takes and gives, by name.
 *
 * @property outputs where a model has but one signature, also those outputs of its graph that the
 *   signature does not name, by the names of their tensors: a `generate` model gives its tokens so.
 */
data class SignatureInfo(val inputs: Map<String, TensorInfo>, val outputs: Map<String, TensorInfo>)

/** A TFLite runtime: JNA on a desktop, `org.tensorflow.lite` on a phone. */
fun interface RuntimePort {
    /**
     * Opens a model.
     *
     * The runtime trusts its input, and a damaged model may end the process: open only what was
     * verified.
     *
     * @param model direct, the whole `.tflite`; it stays in use until the result is closed.
     * @param threads at most this many for one run, 1 or more.
     * @throws ModelError.UnsupportedOperation the runtime lacks an operation of the model.
     * @throws ModelError.RuntimeFailure the runtime refused it for another reason.
     */
    fun open(model: ByteBuffer, threads: Int): SignaturePort
}

/** A model that is open. Used by one thread at a time. */
interface SignaturePort : AutoCloseable {
    val signatures: Map<String, SignatureInfo>

    /**
     * The runner of a signature, one for each; closing the port closes it too.
     *
     * @throws ModelError.RuntimeFailure there is no such signature.
     */
    fun runner(signature: String): SignatureRunner

    /** New memory of zeros, direct and in the machine's byte order, in the form that runs take fastest. */
    fun buffer(bytes: Int): ByteBuffer = ByteBuffer.allocateDirect(bytes).order(ByteOrder.nativeOrder())
}

/** Runs one signature. */
interface SignatureRunner : AutoCloseable {
    /** Chooses the dimensions of an input before the next run. */
    fun resize(input: String, shape: List<Int>)

    /**
     * Runs once.
     *
     * Every buffer is direct, in the machine's byte order, and used from 0 to its capacity, whatever
     * its position; a buffer may be given as an input and as an output of the same run.
     *
     * @param inputs the bytes of every input.
     * @param outputs where the bytes of outputs go; those that are left out stay in [output].
     * @throws ModelError.RuntimeFailure the run failed, or a buffer has not the size of its tensor.
     */
    fun run(inputs: Map<String, ByteBuffer>, outputs: Map<String, ByteBuffer>)

    /** A copy of an output of the last run. */
    fun output(name: String): ByteBuffer

    /** The dimensions of an output after the last run. */
    fun outputShape(name: String): List<Int>
}
