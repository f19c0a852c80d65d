"""A tokenizer graph as two TFLite files, run by LiteRT."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

_TERMINATOR = 0


def convert(graph: Any) -> list[bytes]:
    """The two files of a graph; the text that comes out of it ends in a zero.

    No output of a model may be empty.
    """
    import tensorflow as tf

    text, ids = (tf.TensorSpec([None], dtype) for dtype in (tf.uint8, tf.int32))
    count = tf.TensorSpec([], tf.int32)

    def decode(ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        terminator = tf.constant([_TERMINATOR], tf.uint8)
        return tf.concat([graph.decode(ids, count), terminator], 0)

    files = []
    for function, signature in ((graph.encode, [text]), (decode, [ids, count])):
        traced = tf.function(function, input_signature=signature, autograph=False)
        converter = tf.lite.TFLiteConverter.from_concrete_functions(
            [traced.get_concrete_function()], tf.Module()
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        files.append(converter.convert())
    return files


def traced_encode(graph: Any) -> Callable[[str], list[int]]:
    """The graph in TensorFlow, which takes less time than its conversion."""
    import tensorflow as tf

    signature = [tf.TensorSpec([None], tf.uint8)]
    function = tf.function(graph.encode, input_signature=signature, autograph=False)

    def encode(text: str) -> list[int]:
        ids, count = function(np.frombuffer(text.encode(), np.uint8))
        return ids[:count].numpy().tolist()

    return encode


class ConvertedTokenizer:
    """Encodes and decodes with converted graphs."""

    def __init__(self, files: Sequence[bytes]) -> None:
        self.files = files
        self._encoder, self._decoder = (Interpreter(model_content=file) for file in files)

    @classmethod
    def load(cls, folder: Path) -> ConvertedTokenizer:
        return cls([(folder / name).read_bytes() for name in ("encode", "decode")])

    def save(self, folder: Path) -> None:
        for name, file in zip(("encode", "decode"), self.files, strict=True):
            (folder / name).write_bytes(file)

    def encode(self, text: bytes) -> list[int]:
        ids, count = self.encode_padded(text)
        assert not ids[count:].any()
        return ids[:count].tolist()

    def encode_padded(self, text: bytes) -> tuple[np.ndarray, int]:
        one, other = _run(self._encoder, np.frombuffer(text, np.uint8))
        ids, count = (one, other) if one.ndim else (other, one)
        return ids, int(count)

    def decode(self, ids: Sequence[int], count: int | None = None) -> bytes:
        count = len(ids) if count is None else count
        (text,) = _run(self._decoder, np.array(ids, np.int32), np.int32(count))
        assert text[-1] == _TERMINATOR
        return text[:-1].tobytes()

    def custom_operators(self) -> list[str]:
        models = [schema.ModelT.InitFromPackedBuf(file) for file in self.files]
        return [
            code.customCode for model in models for code in model.operatorCodes if code.customCode
        ]

    def constant_bytes(self) -> int:
        models = [schema.ModelT.InitFromPackedBuf(file) for file in self.files]
        buffers = [buffer.data for model in models for buffer in model.buffers]
        return sum(len(data) for data in buffers if data is not None)


def _run(interpreter: Interpreter, *values: Any) -> list[np.ndarray]:
    inputs = {len(detail["shape"]): detail["index"] for detail in interpreter.get_input_details()}
    for value in values:
        if np.ndim(value):
            interpreter.resize_tensor_input(inputs[1], value.shape)
    interpreter.allocate_tensors()
    for value in values:
        if np.size(value):  # nothing can be set in an empty tensor
            interpreter.set_tensor(inputs[np.ndim(value)], value)
    interpreter.invoke()
    return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
