package io.github.llmtflite.jvm

import com.sun.jna.Callback
import com.sun.jna.Native
import com.sun.jna.NativeLibrary
import com.sun.jna.Pointer
import io.github.llmtflite.core.ModelError
import java.nio.Buffer
import java.nio.file.Files
import java.nio.file.Path

/**
 * The functions of TFLite's C API that are used here, as `tflite/c/c_api.h` and `c_api_experimental.h` of
 * github.com/google-ai-edge/LiteRT declare them; a status is 0 where all went well.
 */
@Suppress("FunctionName")
internal object TfLite {
    /** Names the library that has these functions: `liblitert-lm.so` of the Python package litert-lm-api. */
    const val VARIABLE = "LLM_TFLITE_NATIVE"

    const val OK = 0

    init {
        Native.register(TfLite::class.java, NativeLibrary.getInstance(library().toString()))
    }

    private fun library(): Path {
        val path = System.getenv(VARIABLE)?.let(Path::of)
        if (path == null || !Files.isRegularFile(path)) {
            throw ModelError.RuntimeFailure(
                "$VARIABLE should name the library liblitert-lm.so of the Python package litert-lm-api; it is $path. " +
                    "`make android` sets it.",
            )
        }
        return path
    }

    fun interface ErrorReporter : Callback {
        fun report(userData: Pointer?, format: Pointer, arguments: Pointer)
    }

    @JvmStatic external fun TfLiteVersion(): String

    @JvmStatic external fun TfLiteModelCreateWithErrorReporter(
        data: Buffer, size: Long, reporter: ErrorReporter, userData: Pointer?,
    ): Pointer?

    @JvmStatic external fun TfLiteModelDelete(model: Pointer)

    @JvmStatic external fun TfLiteInterpreterOptionsCreate(): Pointer

    @JvmStatic external fun TfLiteInterpreterOptionsDelete(options: Pointer)

    @JvmStatic external fun TfLiteInterpreterOptionsSetNumThreads(options: Pointer, threads: Int)

    @JvmStatic external fun TfLiteInterpreterOptionsSetErrorReporter(
        options: Pointer, reporter: ErrorReporter, userData: Pointer?,
    )

    @JvmStatic external fun TfLiteInterpreterOptionsAddDelegate(options: Pointer, delegate: Pointer)

    @JvmStatic external fun TfLiteXNNPackDelegateCreate(options: Pointer?): Pointer?

    @JvmStatic external fun TfLiteXNNPackDelegateGetOptions(delegate: Pointer): Pointer

    @JvmStatic external fun TfLiteXNNPackDelegateDelete(delegate: Pointer)

    @JvmStatic external fun TfLiteInterpreterCreate(model: Pointer, options: Pointer): Pointer?

    @JvmStatic external fun TfLiteInterpreterDelete(interpreter: Pointer)

    @JvmStatic external fun TfLiteInterpreterGetOutputTensorCount(interpreter: Pointer): Int

    @JvmStatic external fun TfLiteInterpreterGetOutputTensor(interpreter: Pointer, index: Int): Pointer

    @JvmStatic external fun TfLiteInterpreterGetSignatureRunner(interpreter: Pointer, signature: String): Pointer?

    @JvmStatic external fun TfLiteSignatureRunnerDelete(runner: Pointer)

    @JvmStatic external fun TfLiteSignatureRunnerGetInputCount(runner: Pointer): Long

    @JvmStatic external fun TfLiteSignatureRunnerGetInputName(runner: Pointer, index: Int): String

    @JvmStatic external fun TfLiteSignatureRunnerGetInputTensor(runner: Pointer, name: String): Pointer?

    @JvmStatic external fun TfLiteSignatureRunnerGetOutputTensor(runner: Pointer, name: String): Pointer?

    @JvmStatic external fun TfLiteSignatureRunnerResizeInputTensor(
        runner: Pointer, name: String, shape: IntArray, rank: Int,
    ): Int

    @JvmStatic external fun TfLiteSignatureRunnerAllocateTensors(runner: Pointer): Int

    @JvmStatic external fun TfLiteSignatureRunnerInvoke(runner: Pointer): Int

    @JvmStatic external fun TfLiteTensorName(tensor: Pointer): String

    @JvmStatic external fun TfLiteTensorType(tensor: Pointer): Int

    @JvmStatic external fun TfLiteTensorNumDims(tensor: Pointer): Int

    @JvmStatic external fun TfLiteTensorDim(tensor: Pointer, axis: Int): Int

    @JvmStatic external fun TfLiteOpaqueTensorGetNumDimsSignature(tensor: Pointer, rank: IntArray): Int

    @JvmStatic external fun TfLiteOpaqueTensorGetDimSignature(tensor: Pointer, axis: Int, size: IntArray): Int

    @JvmStatic external fun TfLiteTensorByteSize(tensor: Pointer): Long

    @JvmStatic external fun TfLiteTensorCopyFromBuffer(tensor: Pointer, data: Buffer, size: Long): Int

    @JvmStatic external fun TfLiteTensorCopyToBuffer(tensor: Pointer, data: Buffer, size: Long): Int
}
