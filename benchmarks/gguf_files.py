"""GGUF files for llama.cpp and OpenVINO with the same shape and bits as ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import gguf
import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]
Types: TypeAlias = gguf.GGMLQuantizationType
_FILE_TYPES = {
    Types.F32: gguf.LlamaFileType.ALL_F32,
    Types.Q8_0: gguf.LlamaFileType.MOSTLY_Q8_0,
    Types.Q4_0: gguf.LlamaFileType.MOSTLY_Q4_0,
}


def requantize(source: Path, target: Path, kind: Types) -> None:
    """Write ``source`` again with all matrices of ``kind``, but an embedding of 8 bits or more."""
    reader = gguf.GGUFReader(source)
    fields = dict(reader.fields)
    writer = gguf.GGUFWriter(target, fields.pop("general.architecture").contents())
    fields.pop("general.file_type", None)
    for name, field in fields.items():
        if not name.startswith("GGUF."):  # the header, which the writer makes itself
            sub_type = field.types[-1] if len(field.types) > 1 else None
            writer.add_key_value(name, field.contents(), field.types[0], sub_type)
    writer.add_file_type(_FILE_TYPES[kind])
    for tensor in reader.tensors:
        _add(writer, tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type), kind)
    _write(writer)


def write_gpt2(model: Any, target: Path, kind: Types) -> None:
    """Write a KerasHub GPT-2 as GGUF, with its tokenizer."""
    backbone = model.backbone
    writer = gguf.GGUFWriter(target, "gpt2")
    writer.add_file_type(_FILE_TYPES[kind])
    writer.add_context_length(backbone.max_sequence_length)
    writer.add_embedding_length(backbone.hidden_dim)
    writer.add_feed_forward_length(backbone.intermediate_dim)
    writer.add_block_count(backbone.num_layers)
    writer.add_head_count(backbone.num_heads)
    writer.add_layer_norm_eps(1e-5)
    _add_tokenizer(writer, model.preprocessor.tokenizer)
    for name, values in _gpt2_tensors(backbone):
        _add(writer, name, values, kind)
    _write(writer)


def _gpt2_tensors(backbone: Any) -> Iterator[tuple[str, Matrix]]:
    values = {v.path: v for v in backbone.variables}

    def matrix(path: str, outputs: int) -> Matrix:
        return np.asarray(values[f"{path}/kernel"]).reshape(-1, outputs).T

    def bias(path: str) -> Matrix:
        return np.asarray(values[f"{path}/bias"]).reshape(-1)

    def norm(name: str, path: str) -> Iterator[tuple[str, Matrix]]:
        yield f"{name}.weight", np.asarray(values[f"{path}/gamma"])
        yield f"{name}.bias", np.asarray(values[f"{path}/beta"])

    width = backbone.hidden_dim
    yield "token_embd.weight", np.asarray(values["token_embedding/embeddings"])
    yield "position_embd.weight", np.asarray(values["position_embedding/embeddings"])
    yield from norm("output_norm", "layer_norm")
    for index in range(backbone.num_layers):
        block, layer = f"blk.{index}", f"transformer_layer_{index}"
        attention = f"{layer}/self_attention"
        parts = [f"{attention}/{part}" for part in ("query", "key", "value")]
        yield from norm(f"{block}.attn_norm", f"{layer}/self_attention_layer_norm")
        yield f"{block}.attn_qkv.weight", np.concatenate([matrix(p, width) for p in parts])
        yield f"{block}.attn_qkv.bias", np.concatenate([bias(p) for p in parts])
        yield from norm(f"{block}.ffn_norm", f"{layer}/feedforward_layer_norm")
        for name, path, outputs in (
            ("attn_output", f"{attention}/attention_output", width),
            ("ffn_up", f"{layer}/feedforward_intermediate_dense", backbone.intermediate_dim),
            ("ffn_down", f"{layer}/feedforward_output_dense", width),
        ):
            yield f"{block}.{name}.weight", matrix(path, outputs)
            yield f"{block}.{name}.bias", bias(path)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any) -> None:
    tokens = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [
            gguf.TokenType.CONTROL if token == tokenizer.end_token else gguf.TokenType.NORMAL
            for token in tokens
        ]
    )
    writer.add_token_merges(tokenizer.merges)
    writer.add_bos_token_id(tokenizer.start_token_id)
    writer.add_eos_token_id(tokenizer.end_token_id)


def _add(writer: gguf.GGUFWriter, name: str, values: Matrix, kind: Types) -> None:
    # As llama.cpp's own quantizer: vectors and the position table stay float.
    if values.ndim == 1 or name == "position_embd.weight":
        kind = Types.F32
    elif name == "token_embd.weight" and kind is not Types.F32:
        kind = Types.Q8_0  # our 4-bit files keep an 8-bit embedding, too
    writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)


def _write(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
