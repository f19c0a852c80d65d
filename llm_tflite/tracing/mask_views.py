"""Mask view: attention is masked once, by adding, instead of twice by selecting.

Keras' ``Softmax`` selects before and after the exponential, on a tensor of scores each time. The
model's own boolean mask, sliding windows included, becomes one additive tensor per step (the
converter merges the equal ones of all layers). Rows that are masked throughout stay finite; where a
model wipes what came out of them, it is multiplied by zero, which does not leave XNNPACK.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from math import prod
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework import tensor_util

# Far below any score and finite: a sum with a score cannot overflow to -inf in float32.
_MASKED = -1e9


class WipedRows:
    """The ``keras.ops`` that wipe the rows of a mask with nothing in them."""

    intercepted = ("where",)

    def where(
        self, original: Callable[..., Any], condition: Any, x1: Any = None, x2: Any = None
    ) -> Any:
        """Multiply instead of choosing between zeros and finite activations, row by row."""
        if not _is_zeros(x1) or not tf.is_symbolic_tensor(x2) or condition.dtype != tf.bool:
            return original(condition, x1, x2)
        if condition.shape.rank != len(x2.shape) or condition.shape[-1] != 1:
            return original(condition, x1, x2)
        return x2 * tf.cast(tf.logical_not(condition), x2.dtype)


@contextlib.contextmanager
def additive_masks() -> Iterator[None]:
    """Make ``keras.layers.Softmax`` add its mask until the block ends."""
    original = keras.layers.Softmax.call

    def call(self: Any, inputs: Any, mask: Any = None) -> Any:
        axes = self.axis if isinstance(self.axis, (tuple, list)) else (self.axis,)
        if [axis % len(inputs.shape) for axis in axes] != [len(inputs.shape) - 1]:
            return original(self, inputs, mask)
        if mask is not None:
            mask = mask if mask.dtype == tf.bool else mask > tf.cast(0.5, mask.dtype)
            added = tf.where(mask, 0.0, _MASKED)
            rows = _rows(inputs)
            if rows is not None and prod(added.shape) == added.shape[-1]:
                # One mask for all rows: no need to arrange them as Keras does, which is a copy.
                weights = tf.nn.softmax(rows + tf.reshape(added, [-1]), axis=-1)
                return tf.reshape(weights, inputs.shape)
            inputs = inputs + added
        return tf.nn.softmax(inputs, axis=-1)

    keras.layers.Softmax.call = call
    try:
        yield
    finally:
        keras.layers.Softmax.call = original


def _rows(scores: Any) -> tf.Tensor | None:
    """What was reshaped to ``scores`` without a change of its last axis."""
    if not tf.is_symbolic_tensor(scores) or scores.op.type != "Reshape":
        return None
    rows = scores.op.inputs[0]
    return rows if rows.shape.rank and rows.shape[-1] == scores.shape[-1] else None


def _is_zeros(tensor: Any) -> bool:
    if not tf.is_symbolic_tensor(tensor):
        return False
    if tensor.op.type == "ZerosLike":
        return True
    value = tensor_util.constant_value(tensor)
    return value is not None and not value.any()
