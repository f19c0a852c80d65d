package io.github.llmtflite.jvm

import com.sun.jna.Memory
import com.sun.jna.Pointer
import io.github.llmtflite.core.ModelError
import io.github.llmtflite.core.RuntimePort
import io.github.llmtflite.core.SignatureInfo
import io.github.llmtflite.core.SignatureOutputs
import io.github.llmtflite.core.SignaturePort
import io.github.llmtflite.core.SignatureRunner
import io.github.llmtflite.core.TensorInfo
import io.github.llmtflite.core.TensorType
import java.nio.ByteBuffer
import java.nio.ByteOrder

/** Runs models on a desktop through TFLite's C API; see [TfLite.VARIABLE] for where the library is. */
class JnaRuntime : RuntimePort {
    /** The version of TFLite. */
    val version: String get() = TfLite.TfLiteVersion()

    override fun open(model: ByteBuffer, threads: Int): SignaturePort = JnaModel(model, threads)
}

private class JnaModel(private val bytes: ByteBuffer, threads: Int) : SignaturePort {
    // The library points into the bytes and calls the log, so both live as long as the interpreter.
    private val log = ErrorLog()
    private val model: NativeHandle
    private val xnnpack: NativeHandle
    private val interpreter: NativeHandle
    private val runners = HashMap<String, JnaRunner>()
    private val outputNames: Map<String, List<String>>
    override val signatures: Map<String, SignatureInfo>

    init {
        model = TfLite.TfLiteModelCreateWithErrorReporter(bytes, bytes.capacity().toLong(), log, null)
            ?.let(NativeHandles::opened) ?: throw log.error("The runtime refused the model")
        val options = NativeHandles.opened(TfLite.TfLiteInterpreterOptionsCreate())
        TfLite.TfLiteInterpreterOptionsSetNumThreads(options.get(), threads)
        TfLite.TfLiteInterpreterOptionsSetErrorReporter(options.get(), log, null)
        xnnpack = NativeHandles.opened(xnnpack(threads))
        TfLite.TfLiteInterpreterOptionsAddDelegate(options.get(), xnnpack.get())
        val created = TfLite.TfLiteInterpreterCreate(model.get(), options.get())?.let(NativeHandles::opened)
        options.free(TfLite::TfLiteInterpreterOptionsDelete)
        if (created == null) {
            xnnpack.free(TfLite::TfLiteXNNPackDelegateDelete)
            model.free(TfLite::TfLiteModelDelete)
            throw log.error("The runtime refused the model")
        }
        interpreter = created
        try {
            outputNames = SignatureOutputs.names(bytes)
            signatures = outputNames.keys.associateWith { runner(it).info }
        } catch (e: ModelError) {
            close()
            throw e
        }
    }

    override fun runner(signature: String): JnaRunner = runners.getOrPut(signature) {
        val handle = TfLite.TfLiteInterpreterGetSignatureRunner(interpreter.get(), signature)
            ?: throw ModelError.RuntimeFailure("The model has no signature \"$signature\".")
        val hidden = if (outputNames.size == 1) ::graphOutputs else ::emptyMap
        JnaRunner(NativeHandles.opened(handle), outputNames.getValue(signature), log, hidden)
    }

    /** The outputs of the main graph, by the names of their tensors. */
    private fun graphOutputs(): Map<String, Pointer> =
        List(TfLite.TfLiteInterpreterGetOutputTensorCount(interpreter.get())) {
            TfLite.TfLiteInterpreterGetOutputTensor(interpreter.get(), it)
        }.associateBy(TfLite::TfLiteTensorName)

    override fun close() {
        runners.values.forEach(JnaRunner::close)
        interpreter.free(TfLite::TfLiteInterpreterDelete)
        xnnpack.free(TfLite::TfLiteXNNPackDelegateDelete)
        model.free(TfLite::TfLiteModelDelete)
    }
}

/**
 * The kernels that TFLite uses on a phone, which its C API leaves out unless they are asked for.
 *
 * Its options are a structure that grows from version to version and begins with the number of threads; so those of
 * a first one are copied.
 */
private fun xnnpack(threads: Int): Pointer {
    val first = checkNotNull(TfLite.TfLiteXNNPackDelegateCreate(null)) { "the runtime has no XNNPACK" }
    val options = Memory(OPTIONS_BYTES)
    options.write(0, TfLite.TfLiteXNNPackDelegateGetOptions(first).getByteArray(0, OPTIONS_BYTES.toInt()), 0, OPTIONS_BYTES.toInt())
    options.setInt(0, threads)
    val delegate = TfLite.TfLiteXNNPackDelegateCreate(options)
    TfLite.TfLiteXNNPackDelegateDelete(first)
    return checkNotNull(delegate) { "the runtime has no XNNPACK" }
}

private const val OPTIONS_BYTES = 128L

/** @param graphOutputs finds outputs of the graph that the signature may not name. */
private class JnaRunner(
    private val handle: NativeHandle,
    private val outputNames: List<String>,
    private val log: ErrorLog,
    private val graphOutputs: () -> Map<String, Pointer>,
) : SignatureRunner {
    private val inputNames = List(TfLite.TfLiteSignatureRunnerGetInputCount(handle.get()).toInt()) {
        TfLite.TfLiteSignatureRunnerGetInputName(handle.get(), it)
    }
    private var inputs = inputTensors()
    private var outputs = outputTensors()
    private var allocated = false
    val info = SignatureInfo(inputs.mapValues(::tensorInfo), outputs.mapValues(::tensorInfo))

    override fun resize(input: String, shape: List<Int>) {
        tensor(inputs, input)
        val status = TfLite.TfLiteSignatureRunnerResizeInputTensor(handle.get(), input, shape.toIntArray(), shape.size)
        if (status != TfLite.OK) throw log.error("The input \"$input\" cannot have the shape $shape")
        allocated = false
    }

    override fun run(inputs: Map<String, ByteBuffer>, outputs: Map<String, ByteBuffer>) {
        if (inputs.keys != this.inputs.keys) {
            throw ModelError.RuntimeFailure("The inputs ${this.inputs.keys} were expected; there are ${inputs.keys}.")
        }
        if (!allocated) allocate()
        for ((name, buffer) in inputs) {
            val size = buffer.capacity().toLong()
            if (TfLite.TfLiteTensorCopyFromBuffer(checked(this.inputs, name, size), buffer, size) != TfLite.OK) {
                throw log.error("The input \"$name\" could not be copied")
            }
        }
        val status = TfLite.TfLiteSignatureRunnerInvoke(handle.get())
        if (status != TfLite.OK) throw log.error("Running the model failed")
        for ((name, buffer) in outputs) copy(name, buffer)
    }

    override fun output(name: String): ByteBuffer {
        val size = TfLite.TfLiteTensorByteSize(tensor(outputs, name)).toInt()
        return ByteBuffer.allocateDirect(size).order(ByteOrder.nativeOrder()).also { copy(name, it) }
    }

    override fun outputShape(name: String): List<Int> = shape(tensor(outputs, name))

    override fun close() = handle.free(TfLite::TfLiteSignatureRunnerDelete)

    private fun allocate() {
        if (TfLite.TfLiteSignatureRunnerAllocateTensors(handle.get()) != TfLite.OK) {
            throw log.error("The runtime has no memory for the model")
        }
        // A graph that is prepared may get further tensors, and then all of them stand elsewhere.
        inputs = inputTensors()
        outputs = outputTensors()
        allocated = true
    }

    private fun inputTensors(): Map<String, Pointer> =
        inputNames.associateWith { checkNotNull(TfLite.TfLiteSignatureRunnerGetInputTensor(handle.get(), it)) }

    private fun outputTensors(): Map<String, Pointer> {
        val named = outputNames.associateWith { checkNotNull(TfLite.TfLiteSignatureRunnerGetOutputTensor(handle.get(), it)) }
        return graphOutputs().filterValues { it !in named.values } + named
    }

    private fun copy(name: String, buffer: ByteBuffer) {
        val size = buffer.capacity().toLong()
        if (TfLite.TfLiteTensorCopyToBuffer(checked(outputs, name, size), buffer, size) != TfLite.OK) {
            throw log.error("The output \"$name\" could not be copied")
        }
    }

    private fun checked(tensors: Map<String, Pointer>, name: String, size: Long): Pointer {
        val tensor = tensor(tensors, name)
        val expected = TfLite.TfLiteTensorByteSize(tensor)
        if (size != expected) {
            throw ModelError.RuntimeFailure("The tensor \"$name\" has $expected bytes; a buffer of $size was given.")
        }
        return tensor
    }

    private fun tensor(tensors: Map<String, Pointer>, name: String): Pointer =
        tensors[name] ?: throw ModelError.RuntimeFailure("The signature has no tensor \"$name\"; it has ${tensors.keys}.")
}

private fun tensorInfo(entry: Map.Entry<String, Pointer>): TensorInfo =
    TensorInfo(entry.key, type(TfLite.TfLiteTensorType(entry.value)), declaredShape(entry.value))

private fun shape(tensor: Pointer): List<Int> = List(TfLite.TfLiteTensorNumDims(tensor)) { TfLite.TfLiteTensorDim(tensor, it) }

/** The shape as the file has it, -1 for a dimension that the caller chooses. */
private fun declaredShape(tensor: Pointer): List<Int> {
    val value = IntArray(1)
    if (TfLite.TfLiteOpaqueTensorGetNumDimsSignature(tensor, value) != TfLite.OK || value[0] <= 0) return shape(tensor)
    return List(value[0]) {
        TfLite.TfLiteOpaqueTensorGetDimSignature(tensor, it, value)
        value[0]
    }
}

/** The codes of `TfLiteType` in `tflite/core/c/c_api_types.h`. */
private fun type(code: Int): TensorType = when (code) {
    1 -> TensorType.FLOAT32
    2 -> TensorType.INT32
    3 -> TensorType.UINT8
    4 -> TensorType.INT64
    6 -> TensorType.BOOL
    9 -> TensorType.INT8
    10 -> TensorType.FLOAT16
    else -> TensorType.OTHER
}
