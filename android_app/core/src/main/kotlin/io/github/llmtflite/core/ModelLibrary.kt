package io.github.llmtflite.core

/** The models that a device has. Every call may take long, and throws a [ModelError] or an `IOException`. */
interface ModelLibrary {
    /** Models whose manifest could be read. */
    fun list(): List<ModelChoice>

    /** Opens a model, its digests verified. */
    fun open(id: String): TextEngine
}
