package io.github.llmtflite.core

import org.junit.jupiter.api.Assertions.assertEquals
import org.junit.jupiter.api.Test

class MissingOperationsTest {
    @Test
    fun `operations are read from the runtime's words`() {
        val message = "Internal error: Cannot create interpreter: Didn't find op for builtin opcode 'STABLEHLO_COMPOSITE' version '1'. " +
            "An older version of this builtin might be supported.\nRegistration failed.\n" +
            "Encountered unresolved custom op: MyOp.\nSee instructions: https://www.tensorflow.org/lite/guide/ops_custom\n" +
            "Node number 3 (FlexRegexReplace) failed to prepare.\nNode number 4 (FlexRegexReplace) failed to prepare."
        assertEquals(listOf("STABLEHLO_COMPOSITE", "MyOp", "FlexRegexReplace"), MissingOperations.toldIn(message))
    }

    @Test
    fun `other errors name none`() {
        assertEquals(emptyList<String>(), MissingOperations.toldIn("ByteBuffer is not a valid TensorFlow Lite model flatbuffer"))
    }
}
