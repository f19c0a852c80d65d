"""The operations of TensorFlow Text that have a kernel for TFLite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from llm_tflite.errors import MissingDependencyError
from llm_tflite.op_registrar import Registerer

# What the functions in `SELECT_TFTEXT_OPS` of tensorflow-text 2.21.1 add to a resolver, one each.
# Models name their operations like TensorFlow's, which follow no pattern.
_OPERATIONS = (
    "FastBertNormalize",
    "FastWordpieceTokenizeWithOffsets",
    "RaggedTensorToTensor",
    "SentenceFragmentsV2",
    "TFText>ByteSplitByOffsets",
    "TFText>ByteSplitWithOffsets",
    "TFText>FastSentencepieceDetokenize",
    "TFText>FastSentencepieceTokenize",
    "TFText>FastWordpieceDetokenize",
    "TFText>NgramsStringJoin",
    "TFText>RoundRobinGenerateMasks",
    "TFText>RoundRobinTrim",
    "TFText>Utf8Binarize",
    "TFText>WhitespaceTokenizeWithOffsetsV2",
)


class TFText:
    """Kernels that the package tensorflow-text ships; importing it imports TensorFlow."""

    name = "tf_text"
    operations = _OPERATIONS

    def describe(self) -> Mapping[str, str]:
        """Say which package has the kernels."""
        return {"package": "tensorflow-text"}

    def registerers(self) -> Sequence[Registerer]:
        """Import the package.

        Raises:
            MissingDependencyError: It is not installed.
        """
        try:
            from tensorflow_text import tflite_registrar
        except ImportError as error:
            raise MissingDependencyError(
                "running operations of TensorFlow Text needs the package tensorflow-text; install "
                f"llm-tflite[convert] ({error})"
            ) from error
        registerers: list[Registerer] = tflite_registrar.SELECT_TFTEXT_OPS
        return registerers
