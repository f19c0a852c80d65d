package io.github.llmtflite.app

import io.github.llmtflite.core.MissingOperations
import io.github.llmtflite.core.ModelError
import io.github.llmtflite.core.RuntimePort
import io.github.llmtflite.core.SignatureInfo
import io.github.llmtflite.core.SignaturePort
import io.github.llmtflite.core.SignatureRunner
import io.github.llmtflite.core.TensorInfo
import io.github.llmtflite.core.TensorType
import java.nio.ByteBuffer
import java.nio.ByteOrder
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** TFLite's Java interpreter. */
class LiteRtRuntime : RuntimePort {
    override fun open(model: ByteBuffer, threads: Int): SignaturePort {
        val options = Interpreter.Options().setNumThreads(threads)
        return InterpreterPort(wrapped(::refusal) { Interpreter(model, options) })
    }

    private fun refusal(message: String): ModelError {
        val operations = MissingOperations.toldIn(message)
        return if (operations.isEmpty()) {
            ModelError.RuntimeFailure("The runtime refused the model: $message")
        } else {
            MissingOperations.error(operations)
        }
    }
}

private class InterpreterPort(private val interpreter: Interpreter) : SignaturePort {
    override val signatures: Map<String, SignatureInfo> = interpreter.signatureKeys.associateWith { key ->
        SignatureInfo(
            interpreter.getSignatureInputs(key).associateWith { info(it, interpreter.getInputTensorFromSignature(it, key)) },
            interpreter.getSignatureOutputs(key).associateWith { info(it, interpreter.getOutputTensorFromSignature(it, key)) },
        )
    }

    override fun runner(signature: String): SignatureRunner {
        val info = signatures[signature]
            ?: throw ModelError.RuntimeFailure("The model has no signature \"$signature\"; it has ${signatures.keys}.")
        return InterpreterRunner(interpreter, signature, info)
    }

    override fun close() = interpreter.close()

    private fun info(name: String, tensor: Tensor) = TensorInfo(name, type(tensor.dataType()), tensor.declaredShape())

    private fun type(type: DataType): TensorType = when (type) {
        DataType.FLOAT32 -> TensorType.FLOAT32
        DataType.INT32 -> TensorType.INT32
        DataType.INT64 -> TensorType.INT64
        DataType.INT8 -> TensorType.INT8
        DataType.UINT8 -> TensorType.UINT8
        DataType.BOOL -> TensorType.BOOL
        else -> TensorType.OTHER
    }

    private fun Tensor.declaredShape(): List<Int> {
        val signature = shapeSignature()
        return (if (signature.isEmpty()) shape() else signature).toList()
    }
}

private class InterpreterRunner(
    private val interpreter: Interpreter,
    private val signature: String,
    private val info: SignatureInfo,
) : SignatureRunner {
    private val resized = HashMap<String, List<Int>>()

    override fun resize(input: String, shape: List<Int>) {
        val type = info.inputs[input]?.type
        if (shape.size != 1 || (type != TensorType.UINT8 && type != TensorType.INT8)) {
            throw ModelError.RuntimeFailure("Only an input of bytes with one dimension can be resized; \"$input\" is $type $shape.")
        }
        resized[input] = shape
    }

    override fun run(inputs: Map<String, ByteBuffer>, outputs: Map<String, ByteBuffer>) {
        val given = inputs.mapValues { (name, buffer) -> if (name in resized) bytes(name, buffer) else whole(buffer) }
        val taken = outputs.mapValues { (_, buffer) -> whole(buffer) }
        outputs.forEach { (name, buffer) -> checkSize(name, buffer) }
        wrapped(::failure) { interpreter.runSignature(given, taken, signature) }
    }

    override fun output(name: String): ByteBuffer {
        val bytes = tensor(name).asReadOnlyBuffer()
        return ByteBuffer.allocateDirect(bytes.capacity()).order(ByteOrder.nativeOrder()).apply {
            put(bytes)
            clear()
        }
    }

    override fun outputShape(name: String): List<Int> {
        val tensor = tensor(name)
        // The interpreter remembers the shape of the run in which it last allocated; the bytes are this run's.
        return if (tensor.numDimensions() == 1) listOf(tensor.numBytes() / tensor.dataType().byteSize()) else tensor.shape().toList()
    }

    /** Nothing of its own: the interpreter keeps the signature's memory. */
    override fun close() = Unit

    private fun tensor(name: String): Tensor = wrapped(::failure) { interpreter.getOutputTensorFromSignature(name, signature) }

    /** The interpreter takes a new shape only from an array. */
    private fun bytes(name: String, buffer: ByteBuffer): ByteArray {
        val size = resized.getValue(name).single()
        if (buffer.capacity() != size) {
            throw ModelError.RuntimeFailure("The input \"$name\" was resized to $size bytes; ${buffer.capacity()} were given.")
        }
        return ByteArray(size).also { whole(buffer).get(it) }
    }

    /** The interpreter accepts an output's buffer that is too large, and leaves the rest of it as it was. */
    private fun checkSize(name: String, buffer: ByteBuffer) {
        val shape = info.outputs[name]?.shape ?: throw ModelError.RuntimeFailure("\"$signature\" has no output \"$name\".")
        if (shape.any { it < 0 }) return
        val bytes = shape.fold(info.outputs.getValue(name).type.bytes.toLong()) { product, size -> product * size }
        if (bytes > 0 && bytes != buffer.capacity().toLong()) {
            throw ModelError.RuntimeFailure("The output \"$name\" has $bytes bytes; a buffer of ${buffer.capacity()} was given.")
        }
    }

    private fun whole(buffer: ByteBuffer): ByteBuffer = buffer.duplicate().order(ByteOrder.nativeOrder()).apply { clear() }

    private fun failure(message: String) = ModelError.RuntimeFailure("The model could not be run: $message")
}

/** The interpreter says what is wrong in these two exceptions. */
private inline fun <T> wrapped(error: (String) -> ModelError, block: () -> T): T = try {
    block()
} catch (e: IllegalArgumentException) {
    throw error(e.message ?: e.toString()).apply { initCause(e) }
} catch (e: IllegalStateException) {
    throw error(e.message ?: e.toString()).apply { initCause(e) }
}
