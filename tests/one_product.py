"""A real TFLite model of one FULLY_CONNECTED, its matrix stored as a strategy stores it."""

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

    from llm_tflite.tracing.signatures import Signature
    from llm_tflite.tracing.skeleton import convert_signature

    rows, columns = tensor.values.shape
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (length, columns), name="x")
        w = tf.compat.v1.placeholder(tf.float32, (rows, columns), name="w")
        y = tf.identity(tf.matmul(x, w, transpose_b=True), name="y")
    signature = Signature("serving_default", graph.as_graph_def(), {"x": x, "w": w}, {"y": y})
    model = merge([convert_signature(signature)])
    sites = take_inputs(model, {"w"})
    with path.open("w+b") as stream:
        writer = ModelWriter(stream, 1 << 16 | 32 * rows)
        WeightInjector(model, writer, sites).place("w", tensor)
        writer.finish(model)


def run_product(path: Path, x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Multiply in LiteRT."""
    from llm_tflite.runtime import RuntimeModel

    model = RuntimeModel(str(path), threads=1)
    try:
        return model.call("serving_default", {"x": x})["y"]
    finally:
        model.close()
