"""A conversion lets go of its graphs."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry

import llm_tflite as lt
from llm_tflite.demo import shapes
from llm_tflite.tracing.gradients import without_gradients


@pytest.mark.parametrize("layout", ["prefill_decode", "forward"])
def test_no_graph_of_a_model_with_custom_gradients_is_left(layout: str, tmp_path: Path) -> None:
    model = shapes.tiny_llama()  # its SiLU is a tf.custom_gradient
    registered, graphs = [], []
    for name in ("first", "second"):
        lt.Converter(model, layout=layout, quantizer="none").convert(tmp_path / f"{name}.tflite")
        gc.collect()
        registered.append(len(gradient_registry.list()))
        graphs.append(sum(isinstance(found, tf.Graph) for found in gc.get_objects()))
    assert registered[0] == registered[1]
    assert graphs[0] == graphs[1]


def test_gradients_of_other_graphs_stay() -> None:
    with tf.Graph().as_default() as other:
        x = tf.compat.v1.placeholder(tf.float32, (2,))
        y = tf.nn.silu(x)
        before = set(gradient_registry.list())
        with without_gradients(tf.Graph()):
            tf.nn.silu(tf.compat.v1.placeholder(tf.float32, (2,)))
            assert set(gradient_registry.list()) > before
        assert set(gradient_registry.list()) == before
        assert tf.gradients(y, x)[0].graph is other
