"""Real TFLite models of one FULLY_CONNECTED or lookup, the matrix stored as a strategy does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from llm_tflite.flatbuffer.merge import merge
from llm_tflite.flatbuffer.weights import WeightInjector, take_inputs
from llm_tflite.flatbuffer.writer import ModelWriter
from llm_tflite.quantization import QuantizedTensor


def write_product(path: Path, tensor: QuantizedTensor, length: int = 1) -> None:
    """Write ``serving_default(x [length, in]) -> y [length, out]``."""
    import tensorflow as tf

    x = tf.TensorSpec((length, tensor.values.shape[1]), tf.float32)
    _write(path, tensor, x, lambda x, w: tf.matmul(x, w, transpose_b=True))


def write_lookup(path: Path, tensor: QuantizedTensor, length: int = 1) -> None:
    """Write ``serving_default(x [length]) -> y [length, in]``, the rows of these numbers."""
    import tensorflow as tf

    _write(path, tensor, tf.TensorSpec((length,), tf.int32), lambda x, w: tf.gather(w, x))


def _write(path: Path, tensor: QuantizedTensor, spec: Any, operation: Any) -> None:
    import tensorflow as tf

    from llm_tflite.tracing.signatures import Signature
    from llm_tflite.tracing.skeleton import convert_signature

    rows, columns = tensor.values.shape
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(spec.dtype, spec.shape, name="x")
        w = tf.compat.v1.placeholder(tf.float32, (rows, columns), name="w")
        y = tf.identity(operation(x, w), name="y")
    signature = Signature("serving_default", graph.as_graph_def(), {"x": x, "w": w}, {"y": y})
    model = merge([convert_signature(signature)])
    sites = take_inputs(model, {"w"})
    with path.open("w+b") as stream:
        writer = ModelWriter(stream, 1 << 16 | 32 * rows)
        WeightInjector(model, writer).place(sites["w"], tensor)
        writer.finish(model)


def run_product(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Multiply, or look up, in LiteRT."""
    from llm_tflite.runtime import RuntimeModel

    model = RuntimeModel(str(path), threads=1)
    try:
        return model.call("serving_default", {"x": x})["y"]
    finally:
        model.close()
