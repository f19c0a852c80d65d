"""Window view: the mask of a sliding window is computed for the rows that a step needs.

Gemma's families cut these rows out of a constant ``[S, S]``: a megabyte for 1024 slots, a gigabyte
for 32,768.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import tensor_util


class WindowViews:
    """The bands of one trace, and the ``keras.ops`` that know them."""

    intercepted = ("slice",)

    def __init__(self) -> None:
        # Diagonals below and above the main one, negative for all of them, by the mask's name.
        self._bands: dict[str, tuple[Any, Any]] = {}

    @contextlib.contextmanager
    def band_parts(self) -> Iterator[None]:
        """Take note of ``tf.linalg.band_part`` of ones until the block ends."""
        original = tf.linalg.band_part

        def band_part(input: Any, num_lower: Any, num_upper: Any, **kwargs: Any) -> Any:  # noqa: A002 - TensorFlow's name
            result = original(input, num_lower, num_upper, **kwargs)
            if _is_ones(input):
                self._bands[result.name] = (num_lower, num_upper)
            return result

        tf.linalg.band_part = band_part
        try:
            yield
        finally:
            tf.linalg.band_part = original

    def slice(
        self, original: Callable[..., Any], inputs: Any, start_indices: Any, shape: Any
    ) -> Any:
        """Compute some rows and columns of a band."""
        band = self._bands.get(inputs.name) if tf.is_symbolic_tensor(inputs) else None
        if band is None:
            return original(inputs, start_indices, shape)
        rows, columns = (
            tf.cast(start, tf.int32) + tf.range(length)
            for start, length in zip(start_indices, shape, strict=True)
        )
        below = rows[:, tf.newaxis] - columns
        lower, upper = (tf.cast(diagonals, tf.int32) for diagonals in band)
        inside = ((below <= lower) | (lower < 0)) & ((-below <= upper) | (upper < 0))
        return tf.cast(inside, inputs.dtype)


def _is_ones(tensor: Any) -> bool:
    """Whether a tensor was made by ``ones``, of a size that matters."""
    if not tf.is_symbolic_tensor(tensor) or tensor.op.type != "Fill" or len(tensor.shape) != 2:
        return False
    value = tensor_util.constant_value(tensor.op.inputs[1])
    return value is not None and bool(value == 1)
