"""A Llama-architecture GGUF file as a KerasHub model: real weights where no model hub is reachable.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (keys ``llama.*`` and
``tokenizer.ggml.*``). Everything that would change the result and is not handled is refused.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import (
    ArtifactNotFoundError,
    CorruptArtifactError,
    MissingDependencyError,
    UnsupportedModelError,
)

if TYPE_CHECKING:
    import gguf

__all__ = ["load_gguf_llama"]

# GGUF tensor of one block -> Keras variable of one decoder layer.
_LAYER = {
    "attn_norm": "self_attention_layernorm/scale",
    "attn_q": "self_attention/query/kernel",
    "attn_k": "self_attention/key/kernel",
    "attn_v": "self_attention/value/kernel",
    "attn_output": "self_attention/attention_output/kernel",
    "ffn_norm": "feedforward_layernorm/scale",
    "ffn_gate": "feedforward_gate_dense/kernel",
    "ffn_up": "feedforward_intermediate_dense/kernel",
    "ffn_down": "feedforward_output_dense/kernel",
}
_CONTROL_TOKEN = 3  # llama.cpp's LLAMA_TOKEN_TYPE_CONTROL


class _Fields(dict[str, Any]):
    """The keys of a file and their values; the file is at fault for one that must be there."""

    def __missing__(self, key: str) -> Any:
        raise CorruptArtifactError(f"expected the key {key} in the GGUF file, found none")


def load_gguf_llama(path: str | os.PathLike[str], *, sequence_length: int = 1024) -> Any:
    """Load a Llama-architecture GGUF file as a KerasHub ``Llama3CausalLM`` that takes text.

    Quantized weights are dequantized to float32, one matrix at a time.

    Args:
        path: The file; its tokenizer must be byte-level BPE (``tokenizer.ggml.model`` is ``gpt2``).
        sequence_length: Longest text, in tokens, that the model's preprocessor will make.

    Returns:
        A ``keras_hub.models.Llama3CausalLM`` with a preprocessor.

    Raises:
        ArtifactNotFoundError: There is no such file.
        CorruptArtifactError: The file is not GGUF, or lacks something.
        UnsupportedModelError: The file holds another architecture, tokenizer or variant of Llama.
        MissingDependencyError: ``gguf`` or ``keras_hub`` is not installed.
    """
    try:
        import gguf
        import keras_hub
    except ImportError as e:
        raise MissingDependencyError(
            f"reading GGUF files needs the package {e.name!r}: pip install 'llm-tflite[demo]'"
        ) from e

    if not Path(path).is_file():
        raise ArtifactNotFoundError(f"expected a GGUF file at {os.fspath(path)!r}, found none")
    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError) as e:
        raise CorruptArtifactError(f"{os.fspath(path)!r} is not a readable GGUF file: {e}") from e

    fields = _Fields({name: field.contents() for name, field in reader.fields.items()})
    _refuse_other_models(fields)
    config = _backbone_config(fields)
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    config["tie_word_embeddings"] = "output.weight" not in tensors
    names = _variable_names(config)
    if names.keys() != tensors.keys():
        different = ", ".join(sorted(names.keys() ^ tensors.keys())[:5])
        raise UnsupportedModelError(
            f"expected the {len(names)} tensors of a plain Llama, found {len(tensors)}; "
            f"present on one side only: {different}"
        )
    preprocessor = keras_hub.models.Llama3CausalLMPreprocessor(
        _tokenizer(fields), sequence_length=sequence_length
    )
    backbone = keras_hub.models.Llama3Backbone(**config)
    variables = {variable.path: variable for variable in backbone.variables}
    for name, variable_name in names.items():
        variable = variables[variable_name]
        variable.assign(_keras_order(tensors[name], config, tuple(variable.shape)))
    return keras_hub.models.Llama3CausalLM(backbone=backbone, preprocessor=preprocessor)


def _refuse_other_models(fields: _Fields) -> None:
    head_dim = None
    if fields.get("general.architecture") == "llama":
        head_dim = fields["llama.embedding_length"] // fields["llama.attention.head_count"]
    # Defaults as llama.cpp has them: an absent key means the plain Llama.
    for key, expected, default in (
        ("general.architecture", "llama", None),
        ("tokenizer.ggml.model", "gpt2", None),
        ("llama.rope.dimension_count", head_dim, head_dim),
        ("llama.attention.key_length", head_dim, head_dim),
        ("llama.attention.value_length", head_dim, head_dim),
        ("llama.rope.scaling.type", "none", "none"),
    ):
        found = fields.get(key, default)
        if found != expected:
            raise UnsupportedModelError(
                f"expected {key} = {expected!r} in the GGUF file, found {found!r}; only Llama "
                "models with a byte-level BPE tokenizer and unscaled rotary embeddings can be read"
            )


def _backbone_config(fields: _Fields) -> dict[str, Any]:
    heads = fields["llama.attention.head_count"]
    return {
        "vocabulary_size": len(fields["tokenizer.ggml.tokens"]),
        "num_layers": fields["llama.block_count"],
        "num_query_heads": heads,
        "num_key_value_heads": fields.get("llama.attention.head_count_kv", heads),
        "hidden_dim": fields["llama.embedding_length"],
        "intermediate_dim": fields["llama.feed_forward_length"],
        "rope_max_wavelength": fields.get("llama.rope.freq_base", 10000.0),
        "layer_norm_epsilon": fields["llama.attention.layer_norm_rms_epsilon"],
    }


def _variable_names(config: dict[str, Any]) -> dict[str, str]:
    """GGUF tensor name -> path of the Keras variable, for the whole model."""
    names = {
        "token_embd.weight": "token_embedding/embeddings",
        "output_norm.weight": "sequence_output_layernorm/scale",
    }
    if not config["tie_word_embeddings"]:
        names["output.weight"] = "token_embedding/reverse_embeddings"
    for layer in range(config["num_layers"]):
        for tensor, variable in _LAYER.items():
            names[f"blk.{layer}.{tensor}.weight"] = f"transformer_layer_{layer}/{variable}"
    return names


def _keras_order(
    tensor: gguf.ReaderTensor, config: dict[str, Any], shape: tuple[int, ...]
) -> npt.NDArray[np.float32]:
    """The float values of ``tensor`` in the order and shape of its Keras variable."""
    import gguf

    if tensor.n_elements != (size := math.prod(shape)):
        raise CorruptArtifactError(
            f"expected the tensor {tensor.name} to hold {size} values, found {tensor.n_elements}"
        )
    values: npt.NDArray[np.float32] = gguf.dequantize(tensor.data, tensor.tensor_type)
    if values.ndim == 1 or tensor.name == "token_embd.weight":
        return values
    for projection, heads in (("attn_q", "num_query_heads"), ("attn_k", "num_key_value_heads")):
        if f".{projection}." in tensor.name:
            # GGUF interleaves the rotated pairs (0, d/2), (1, d/2 + 1)...; Keras keeps the halves.
            pairs = values.reshape(config[heads], -1, 2, values.shape[1])
            values = pairs.swapaxes(1, 2).reshape(values.shape)
    return values.T.reshape(shape)  # GGUF is [out, in], Keras [in, out]


def _tokenizer(fields: _Fields) -> Any:
    import keras_hub

    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        vocabulary={token: index for index, token in enumerate(tokens)},
        merges=fields["tokenizer.ggml.merges"],
        unsplittable_tokens=list(_control_tokens(fields)),
    )
    # KerasHub's per-family tokenizers declare their special tokens with this very method.
    tokenizer._add_special_token(tokens[fields["tokenizer.ggml.eos_token_id"]], "end_token")
    # KerasHub prepends any start token before generating, whatever ``add_start_token`` says, so
    # a model without one must not have the attribute set.
    tokenizer.start_token_id = None
    if fields.get("tokenizer.ggml.add_bos_token", False):
        tokenizer._add_special_token(tokens[fields["tokenizer.ggml.bos_token_id"]], "start_token")
    tokenizer.pad_token_id = 0
    return tokenizer


def _control_tokens(fields: _Fields) -> Iterator[str]:
    types = fields["tokenizer.ggml.token_type"]
    for token, kind in zip(fields["tokenizer.ggml.tokens"], types, strict=True):
        if kind == _CONTROL_TOKEN:
            yield token
