"""A llama2.c checkpoint as a KerasHub model: small models with true float32 weights.

Format: ``export.py`` (version 0) and ``tokenizer.py`` of https://github.com/karpathy/llama2.c.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import ArtifactNotFoundError, CorruptArtifactError, MissingDependencyError

__all__ = ["load_llama2c"]

_HEADER = struct.Struct("<7i")
_EPSILON = 1e-5
_SPACE = "\u2581"
# The file's order, and the Keras variable of one decoder layer; matrices are [out, in].
_LAYER = (
    ("self_attention_layernorm/scale", ("dim",)),
    ("self_attention/query/kernel", ("dim", "dim")),
    ("self_attention/key/kernel", ("keys", "dim")),
    ("self_attention/value/kernel", ("keys", "dim")),
    ("self_attention/attention_output/kernel", ("dim", "dim")),
    ("feedforward_layernorm/scale", ("dim",)),
    ("feedforward_gate_dense/kernel", ("hidden", "dim")),
    ("feedforward_output_dense/kernel", ("dim", "hidden")),
    ("feedforward_intermediate_dense/kernel", ("hidden", "dim")),
)


class _Reader:
    """The floats of a file, in order."""

    def __init__(self, data: bytes, offset: int) -> None:
        self._data = data
        self.offset = offset

    def take(self, *shape: int) -> npt.NDArray[np.float32]:
        count = math.prod(shape)
        if self.offset + 4 * count > len(self._data):
            raise CorruptArtifactError(
                f"expected {count} floats at byte {self.offset} of the checkpoint, which ends at "
                f"{len(self._data)}"
            )
        values = np.frombuffer(self._data, "<f4", count, self.offset).reshape(shape)
        self.offset += 4 * count
        return values.astype(np.float32)


def load_llama2c(path: str | os.PathLike[str]) -> Any:
    """Load a checkpoint that its tokenizer follows, as llama2.c's builds for the web have them.

    Returns:
        A ``keras_hub.models.LlamaCausalLM`` that takes text.

    Raises:
        ArtifactNotFoundError: There is no such file.
        CorruptArtifactError: It ends early, or its sizes make no model.
        MissingDependencyError: ``keras_hub`` is not installed.
    """
    try:
        import keras_hub
    except ImportError as e:
        raise MissingDependencyError(
            f"building the model needs the package {e.name!r}: pip install 'llm-tflite[demo]'"
        ) from e
    if not Path(path).is_file():
        raise ArtifactNotFoundError(f"expected a checkpoint at {os.fspath(path)!r}, found none")
    data = Path(path).read_bytes()
    sizes = _sizes(data)
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=abs(sizes["vocabulary"]),
        num_layers=sizes["layers"],
        num_query_heads=sizes["heads"],
        num_key_value_heads=sizes["key_heads"],
        hidden_dim=sizes["dim"],
        intermediate_dim=sizes["hidden"],
        layer_norm_epsilon=_EPSILON,
        tie_word_embeddings=sizes["vocabulary"] > 0,
    )
    reader = _Reader(data, _HEADER.size)
    _assign(backbone, sizes, reader)
    tokenizer = keras_hub.models.LlamaTokenizer(_tokenizer(data, reader.offset, backbone))
    preprocessor = keras_hub.models.LlamaCausalLMPreprocessor(
        tokenizer, sequence_length=sizes["context"]
    )
    return keras_hub.models.LlamaCausalLM(backbone=backbone, preprocessor=preprocessor)


def _sizes(data: bytes) -> dict[str, int]:
    names = ("dim", "hidden", "layers", "heads", "key_heads", "vocabulary", "context")
    if len(data) < _HEADER.size:
        raise CorruptArtifactError(f"expected a header of {_HEADER.size} bytes, got {len(data)}")
    sizes = dict(zip(names, _HEADER.unpack_from(data), strict=True))
    # A negative vocabulary says that the head is a matrix of its own.
    good = all(size > 0 for name, size in sizes.items() if name != "vocabulary")
    if not good or not sizes["vocabulary"] or sizes["dim"] % (2 * sizes["heads"]):
        raise CorruptArtifactError(f"expected the sizes of a Llama in the header, found {sizes}")
    return sizes | {"keys": sizes["dim"] // sizes["heads"] * sizes["key_heads"]}


def _assign(backbone: Any, sizes: dict[str, int], reader: _Reader) -> None:
    variables = {variable.path: variable for variable in backbone.variables}
    vocabulary, dim = abs(sizes["vocabulary"]), sizes["dim"]
    variables["token_embedding/embeddings"].assign(reader.take(vocabulary, dim))
    for name, dims in _LAYER:
        for layer in range(sizes["layers"]):
            values = reader.take(*(sizes[d] for d in dims))
            variable = variables[f"transformer_layer_{layer}/{name}"]
            variable.assign(_keras_order(name, values, sizes).reshape(variable.shape))
    variables["sequence_output_layernorm/scale"].assign(reader.take(dim))
    reader.take(2, sizes["context"], dim // sizes["heads"] // 2)  # angles, which Keras computes
    if sizes["vocabulary"] < 0:
        variables["token_embedding/reverse_embeddings"].assign(reader.take(vocabulary, dim).T)


def _keras_order(
    name: str, values: npt.NDArray[np.float32], sizes: dict[str, int]
) -> npt.NDArray[np.float32]:
    if "query" in name or "key" in name:
        # Rotated pairs are neighbours in the file and half a head apart in Keras.
        heads = sizes["heads" if "query" in name else "key_heads"]
        pairs = values.reshape(heads, -1, 2, values.shape[1])
        values = pairs.swapaxes(1, 2).reshape(values.shape)
    return values.T


def _tokenizer(data: bytes, offset: int, backbone: Any) -> bytes:
    """The tokenizer as the SentencePiece model that it was made from."""
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    offset += 4  # the longest piece's length
    for token in range(backbone.vocabulary_size):
        if offset + 8 > len(data):
            raise CorruptArtifactError(f"expected {backbone.vocabulary_size} pieces, got {token}")
        score, length = struct.unpack_from("<fi", data, offset)
        text = data[offset + 8 : offset + 8 + length]
        offset += 8 + length
        if length < 0 or offset > len(data):
            raise CorruptArtifactError(f"expected a piece at byte {offset - length}, found the end")
        if token < 3:
            name, kind = ("<unk>", "<s>", "</s>")[token], "UNKNOWN" if token == 0 else "CONTROL"
        elif token < 259:
            name, kind = f"<0x{token - 3:02X}>", "BYTE"
        else:
            name, kind = text.decode("utf-8").replace(" ", _SPACE), "NORMAL"
        model.pieces.add(piece=name, score=score, type=kinds.Type.Value(kind))
    model.trainer_spec.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    model.trainer_spec.vocab_size = backbone.vocabulary_size
    model.trainer_spec.byte_fallback = True
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = True
    model.normalizer_spec.remove_extra_whitespaces = False
    serialized: bytes = model.SerializeToString()
    return serialized
