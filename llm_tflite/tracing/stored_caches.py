"""Keys and values in the types that caches may have: to float32, from it, and multiplied.

A product of activations with an int8 cache as it is comes out as zeros in the runtime
(``docs/measurements.md``). So a product reads a cache through one CAST, which makes a copy of one
layer's keys or values in float32. Scales of int8 never touch that copy: ``q . (s k) = s (q . k)``,
and those of values go to the weights of the softmax.
"""

from __future__ import annotations

from math import log

import tensorflow as tf

from ..cache_types import (
    FIRST_OCTAVE,
    LARGEST_EXPONENT,
    LARGEST_INTEGER,
    STEPS_PER_OCTAVE,
    CacheType,
)

_LN_STEP = log(2) / STEPS_PER_OCTAVE
_LN_FIRST = log(2) * FIRST_OCTAVE
# Steps from a magnitude of 1 to one whose scale has the exponent 0.
_OFFSET = (log(LARGEST_INTEGER) + _LN_FIRST) / _LN_STEP
_LEAST = 1e-30


def encoded(values: tf.Tensor, dtype: CacheType, axis: int) -> tf.Tensor:
    """Turn float32 keys or values into their stored form.

    Args:
        values: Of some tokens.
        dtype: Of the cache.
        axis: The one along which the numbers of one head and token lie.
    """
    if dtype != "int8":
        return values if dtype == "float32" else tf.cast(values, dtype)
    largest = tf.reduce_max(tf.abs(values), axis=axis, keepdims=True)
    # The logarithm of zero is kept out; what is as small as that ends at the least exponent.
    steps = tf.math.log(tf.maximum(largest, _LEAST)) * (1 / _LN_STEP) - _OFFSET
    exponents = tf.clip_by_value(tf.math.ceil(steps), -LARGEST_EXPONENT, LARGEST_EXPONENT)
    integers = tf.round(values * tf.exp(-_LN_STEP * exponents - _LN_FIRST))
    both = tf.concat([integers, exponents], axis=axis)
    return tf.cast(tf.clip_by_value(both, -LARGEST_INTEGER, LARGEST_INTEGER), tf.int8)


def decoded(stored: tf.Tensor, dtype: CacheType, axis: int) -> tf.Tensor:
    """Turn a cache into the float32 numbers that it stands for, one by one.

    Args:
        stored: As the file has it.
        dtype: Its type.
        axis: The one along which the numbers of one head and token lie.
    """
    if dtype == "int8":
        integers, exponents = _parts(stored, axis)
        return tf.cast(integers, tf.float32) * _scales(exponents)
    return stored if dtype == "float32" else tf.cast(stored, tf.float32)


def product(
    rows: tf.Tensor, stored: tf.Tensor, dtype: CacheType, *, axis: int, last: bool
) -> tf.Tensor:
    """Multiply activations with a cache: ``[1, Hkv, R, D or S]`` to ``[1, Hkv, R, S or D]``.

    Args:
        rows: float32; of queries, or of weights of a softmax.
        stored: The cache, ``[1, Hkv, S, D]`` or ``[1, Hkv, D, S]``, with its scales in int8.
        dtype: Its type.
        axis: The one of D.
        last: Whether the product runs over the last axis of ``stored``.
    """
    if dtype != "int8":
        return _product(rows, decoded(stored, dtype, axis), last=last)
    _, exponents = _parts(stored, axis)
    heads, slots = stored.shape[1], stored.shape[5 - axis]
    scales = _scales(tf.reshape(exponents, [1, heads, 1, slots]))
    numbers = tf.cast(stored, tf.float32)
    if (axis == 3) == last:  # over D: a zero in the query meets the exponent
        rows = tf.pad(rows, [[0, 0], [0, 0], [0, 0], [0, 1]])
        return _product(rows, numbers, last=last) * scales
    # Over S: what the exponents make of it is the last column, and cut off.
    return _product(rows * scales, numbers, last=last)[..., :-1]


def _product(rows: tf.Tensor, numbers: tf.Tensor, *, last: bool) -> tf.Tensor:
    if rows.shape[2] == 1 and last:
        # XNNPACK packs the whole right operand of a product, for one row as for many.
        return tf.expand_dims(tf.reduce_sum(rows * numbers, axis=-1), 2)
    return tf.matmul(rows, numbers, transpose_b=last)


def _parts(stored: tf.Tensor, axis: int) -> tuple[tf.Tensor, tf.Tensor]:
    """The integers of an int8 cache, and the exponents behind them."""
    size = stored.shape[axis] - 1
    before = (slice(None),) * axis
    return stored[(*before, slice(size))], stored[(*before, slice(size, None))]


def _scales(exponents: tf.Tensor) -> tf.Tensor:
    return tf.exp(tf.cast(exponents, tf.float32) * _LN_STEP + _LN_FIRST)
