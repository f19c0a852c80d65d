"""One error tree: every failure that the library can explain is an ``LLMTFLiteError``.

Each message says what was expected, what was found and what to do, in that order. The leaves also
derive from the built-in error that callers would reach for (``ValueError``,
``FileExistsError``...).
"""

from __future__ import annotations

from collections.abc import Iterable


class LLMTFLiteError(Exception):
    """Root of everything that llm_tflite raises on purpose."""


class MissingDependencyError(LLMTFLiteError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


# --- converting -------------------------------------------------------------------------------


class ConversionError(LLMTFLiteError):
    """A model could not be turned into an artifact."""


class UnsupportedModelError(ConversionError, TypeError):
    """The object is not a causal language model that can be traced, or not on TensorFlow."""


class InvalidOptionError(LLMTFLiteError, ValueError):
    """An argument has a value that no result could honour."""


class DisagreementError(ConversionError):
    """The converted file and the Keras model say different things."""


class QuantizationError(ConversionError):
    """A strategy failed on a weight, or a weight (NaN, infinite) cannot be quantized."""


# --- plugins ----------------------------------------------------------------------------------


class PluginError(LLMTFLiteError):
    """A plugin is broken, or two of them collide."""


class PluginConflictError(PluginError):
    """Two plugins offer the same name."""


class UnknownPluginNameError(PluginError, LookupError):
    """No plugin offers the name; the message lists those that exist and those that broke."""


class ConformanceError(PluginError, AssertionError):
    """A strategy breaks a claim of ``llm_tflite.testing``; the message says which, and on what."""


# --- files ------------------------------------------------------------------------------------


class ArtifactError(LLMTFLiteError):
    """A file on disk cannot be used or written."""


class ArtifactNotFoundError(ArtifactError, FileNotFoundError):
    """There is no file at the path."""


class ArtifactExistsError(ArtifactError, FileExistsError):
    """The target exists and ``overwrite`` was not given."""


class CorruptArtifactError(ArtifactError, ValueError):
    """The file is truncated, altered or not of the format that it claims."""


class IncompatibleArtifactError(ArtifactError, ValueError):
    """The file is whole, but this version (or this call) cannot use it."""


class MissingOpsError(IncompatibleArtifactError):
    """The model has custom operations that nothing here runs.

    Attributes:
        names: These operations, as they stand in the file.
    """

    def __init__(self, message: str, names: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.names = tuple(names)


class StorageError(ArtifactError, OSError):
    """The disk refused: no space, no permission, an input/output error."""


# --- running ----------------------------------------------------------------------------------


class InferenceError(LLMTFLiteError):
    """A loaded model could not answer."""


class PromptError(InferenceError, ValueError):
    """The prompt cannot reach the model exactly as given."""


class FilteredPromptError(PromptError):
    """A text filter refused the prompt; the message says which and where, and not what.

    Attributes:
        filter_name: The filter.
        start: Index of the first character that it refused.
        end: Index after the last one.
    """

    def __init__(self, message: str, *, filter_name: str, start: int, end: int) -> None:
        super().__init__(message)
        self.filter_name = filter_name
        self.start = start
        self.end = end


class ContextOverflowError(InferenceError, ValueError):
    """The prompt (or position) does not fit the context of the model."""


class ClosedError(InferenceError, RuntimeError):
    """The interpreter was closed before the call."""


class RuntimeFailureError(InferenceError, RuntimeError):
    """The TFLite runtime refused the model or a call."""
