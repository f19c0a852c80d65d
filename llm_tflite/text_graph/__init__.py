"""Tokenizers as TensorFlow graphs: bytes to token ids and back with TFLite's built-in operators.

A graph has no strings, no tables that need initialising and no state; what it says equals what
``llm_tflite.tokenizers`` says on the host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from ..longest_match import read_longest_match
from ..tokenizers import load_tokenizer

if TYPE_CHECKING:
    import tensorflow as tf

__all__ = ["GraphTokenizer", "graph_tokenizer"]


class GraphTokenizer(Protocol):
    """What can be traced into a graph."""

    def encode(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the ids of a text.

        Args:
            text: uint8 ``[N]``, UTF-8 without terminator; ``N`` may be 0.

        Returns:
            int32 ids ``[M]``, ``M`` at least 1, padded with zeros; and how many of them count.
        """

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ``count`` ids, as uint8; there may be none.

        Control tokens and ids outside of the vocabulary give nothing.
        """


def graph_tokenizer(
    kind: Literal["hf", "sentencepiece"], data: bytes, *, special_tokens: bool
) -> GraphTokenizer:
    """Make a graph of a tokenizer in the form in which an artifact carries it.

    Args:
        kind: ``"hf"`` (a byte-level ``tokenizer.json``) or ``"sentencepiece"`` (a model proto).
        data: The file's bytes.
        special_tokens: Whether the name of a control token in the text stands for that token;
            otherwise it is text like any other.

    Raises:
        UnsupportedModelError: The tokenizer asks for something that has no graph.
        CorruptArtifactError: The bytes are not such a tokenizer.
        IncompatibleArtifactError: It is a tokenizer of another kind.
    """
    load_tokenizer(kind, data)  # refuses what is no tokenizer
    if kind == "hf":
        if tokens := read_longest_match(data):
            from .longest_match import LongestMatchGraph

            return LongestMatchGraph(tokens)
        from .byte_level import ByteLevelGraph

        return ByteLevelGraph(data, special_tokens=special_tokens)
    from .sentencepiece_bpe import SentencePieceBpeGraph
    from .sentencepiece_file import BPE, read_sentencepiece_file

    file = read_sentencepiece_file(data)
    if file.model_type == BPE:
        return SentencePieceBpeGraph(file, special_tokens=special_tokens)
    from .sentencepiece_unigram import SentencePieceUnigramGraph

    return SentencePieceUnigramGraph(file, special_tokens=special_tokens)
