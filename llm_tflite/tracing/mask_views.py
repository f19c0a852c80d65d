"""Mask view: attention is masked once, by adding, instead of twice by selecting.

Keras' ``Softmax`` selects before and after the exponential, on a tensor of scores each time. The
model's own boolean mask, sliding windows included, becomes one additive tensor per step (the
converter merges the equal ones of all layers). Rows that are masked throughout stay finite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf

# Far below any score and finite: a sum with a score cannot overflow to -inf in float32.
_MASKED = -1e9


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
            inputs = inputs + tf.where(mask, 0.0, _MASKED)
        return tf.nn.softmax(inputs, axis=-1)

    keras.layers.Softmax.call = call
    try:
        yield
    finally:
        keras.layers.Softmax.call = original
