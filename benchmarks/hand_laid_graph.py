"""Lay a decode graph by hand: plain TensorFlow, no Keras and none of the tracer's views.

Only the ends of the road are the library's: its quantizer and its writer, so that graphs are
compared and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from llm_tflite.flatbuffer.merge import merge
from llm_tflite.flatbuffer.weights import take_inputs
from llm_tflite.layouts.core import write_model
from llm_tflite.quantization import QuantizationStrategy
from llm_tflite.signature_names import signature_name
from llm_tflite.tracing.signatures import Signature, WeightInput
from llm_tflite.tracing.skeleton import convert_signature

_MASKED = -1e9
_EMBEDDING = "embedding"

Values = Mapping[str, np.ndarray]  # of a Keras model, by the paths of its variables
Lay = Callable[["DecodeGraph", Any, Values], None]


@dataclass(frozen=True)
class Arrangement:
    """How products of one activation are laid.

    Attributes:
        name: For the report.
        as_one: Whether by hand: queries, keys and values as one product, gates and ups as another,
            queries and keys normalized and rotated together. Otherwise as the writer stacks them.
    """

    name: str
    as_one: bool


ARRANGEMENTS = (
    Arrangement("products stacked by the writer", as_one=False),
    Arrangement("QKV and gates as one", as_one=True),
)


@dataclass(frozen=True)
class Matrix:
    """What the writer wants to know of a variable."""

    path: str
    values: np.ndarray

    def numpy(self) -> np.ndarray:
        """The values, as the writer asks for them."""
        return self.values


class DecodeGraph:
    """One decode graph while it is laid: inputs, outputs, and what layers are made of.

    Attributes:
        position: The token's position, int32 ``[1]``.
        slots: Tokens that the caches hold.
        arrangement: How products of one activation are laid.
        inputs: Placeholders by the signature's names.
        outputs: Results by the signature's names.
        weights: The matrices that the graph takes.
    """

    def __init__(self, slots: int, arrangement: Arrangement) -> None:
        self.slots, self.arrangement = slots, arrangement
        self.inputs: dict[str, tf.Tensor] = {}
        self.outputs: dict[str, tf.Tensor] = {}
        self.weights: dict[str, WeightInput] = {}
        self._tokens = self._input("tokens", (1, 1), tf.int32)
        self.position = self._input("input_pos", (1,), tf.int32)

    def embed(self, table: np.ndarray) -> tf.Tensor:
        """The token's row ``[1, width]``; the same table makes the logits."""
        uses = frozenset({"lookup", "projection"})
        return tf.gather(self._weight(_EMBEDDING, table, uses), self._tokens[0])

    def logits(self, x: tf.Tensor) -> None:
        """Give the products with all rows of the embedding."""
        scores = tf.matmul(x, self.inputs[_EMBEDDING], transpose_b=True)
        self.outputs["logits"] = tf.reshape(scores, [1, 1, -1])

    def project(self, x: tf.Tensor, name: str, *matrices: np.ndarray) -> tf.Tensor:
        """``x [1, in]`` times matrices ``[out, in]``, one below the other."""
        matrix = self._weight(name, np.concatenate(matrices), frozenset({"projection"}))
        return tf.matmul(x, matrix, transpose_b=True)

    def gates_and_ups(
        self, layer: int, x: tf.Tensor, gate: np.ndarray, up: np.ndarray
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Both products of a gated feed-forward network, as one where the arrangement says so."""
        if self.arrangement.as_one:
            gates, ups = tf.split(self.project(x, f"gates_{layer}", gate, up), 2, axis=-1)
            return gates, ups
        return self.project(x, f"gate_{layer}", gate), self.project(x, f"up_{layer}", up)

    def mask(self, window: int | None = None) -> tf.Tensor:
        """What is added to scores: zero for this token and those before it, within the window."""
        slot = tf.range(self.slots)
        seen = slot <= self.position
        if window is not None and window < self.slots:
            seen &= slot > self.position - window
        return tf.where(seen, 0.0, _MASKED)

    def rotation(self, size: int, wavelength: float) -> tuple[tf.Tensor, tf.Tensor]:
        """Cosines and signed sines ``[size]`` of this position."""
        frequencies = wavelength ** (-np.arange(0, size, 2, dtype=np.float32) / size)
        angles = tf.cast(self.position, tf.float32) * frequencies.astype(np.float32)
        cos, sin = tf.cos(angles), tf.sin(angles)
        return tf.concat([cos, cos], 0), tf.concat([-sin, sin], 0)

    def attend(
        self, layer: int, query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, mask: tf.Tensor
    ) -> tf.Tensor:
        """Write key and value to the caches and read them.

        Args:
            layer: Whose caches.
            query: ``[1, heads, queries per head, size]``, scaled.
            key: ``[1, heads, 1, size]``.
            value: ``[1, heads, size, 1]``.
            mask: What is added to the scores.

        Returns:
            ``[1, heads * queries per head * size]``.
        """
        zero, at = 0, self.position[0]
        keys = self._updated(f"kv_cache_k_{layer}", key, [zero, zero, at, zero], 2)
        values = self._updated(f"kv_cache_v_{layer}", value, [zero, zero, zero, at], 3)
        weights = tf.nn.softmax(tf.matmul(query, keys, transpose_b=True) + mask)
        return tf.reshape(tf.matmul(weights, values, transpose_b=True), [1, -1])

    def _updated(self, name: str, update: tf.Tensor, start: Sequence[Any], axis: int) -> tf.Tensor:
        shape = [int(size) for size in update.shape]
        shape[axis] = self.slots
        cache = self._input(name, tuple(shape), tf.float32)
        result = xla.dynamic_update_slice(cache, update, tf.stack(start))
        self.outputs[name] = tf.ensure_shape(result, shape)
        return self.outputs[name]

    def _weight(self, name: str, values: np.ndarray, uses: frozenset[Any]) -> tf.Tensor:
        self.weights[name] = WeightInput(name, Matrix(name, values), (0, 1), values.shape, uses)
        return self._input(name, values.shape, tf.float32)

    def _input(self, name: str, shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
        self.inputs[name] = tf.compat.v1.placeholder(dtype, shape, name=name)
        return self.inputs[name]


def normalized(x: tf.Tensor, scale: np.ndarray, epsilon: float) -> tf.Tensor:
    """Root mean square normalization over the last axis."""
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + epsilon) * scale


def rotated(x: tf.Tensor, rotation: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
    """Turn the pairs of halves along the last axis."""
    one, other = tf.split(x, 2, axis=-1)
    return x * rotation[0] + tf.concat([other, one], -1) * rotation[1]


def write_hand_laid(
    path: Path,
    model: Any,
    lay: Lay,
    *,
    slots: Sequence[int],
    arrangement: Arrangement,
    strategy: QuantizationStrategy,
) -> None:
    """Write a ``.tflite`` with a decode graph for each size of caches, the largest first.

    Args:
        path: Where to.
        model: The Keras model whose weights it gets.
        lay: Lays its layers into a graph.
        slots: Tokens that the caches hold; the largest is the context.
        arrangement: How products of one activation are laid.
        strategy: How each matrix is stored.
    """
    values = {variable.path: np.asarray(variable) for variable in model.variables}
    parts, weights = [], {}
    for size in sorted(slots, reverse=True):
        with tf.Graph().as_default() as recorded:
            graph = DecodeGraph(size, arrangement)
            lay(graph, model.backbone, values)
        name = signature_name(None, None if size == max(slots) else size)
        definition = recorded.as_graph_def()
        parts.append(convert_signature(Signature(name, definition, graph.inputs, graph.outputs)))
        weights = graph.weights
    flatbuffer = merge(parts)
    sites = take_inputs(flatbuffer, weights)
    with path.open("w+b") as stream:
        write_model(
            flatbuffer,
            sites,
            list(weights.values()),
            stream,
            strategy=strategy,
            report=lambda progress: None,
        )
