"""Steps on 1-d int32 arrays and flags that TFLite has as built-in operators.

Flags and text are int32 or bool, never uint8: TFLite takes uint8 for a quantized type, and
comparing two such tensors without a scale ends the process.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import tensorflow as tf

Integers = npt.NDArray[np.int32]


def smallest_integers(values: npt.ArrayLike) -> npt.NDArray[np.integer]:
    """Return a table in the smallest type that holds its values and that GATHER reads."""
    table = np.asarray(values, np.int64)
    for dtype in (np.uint8, np.int16):
        if np.iinfo(dtype).min <= table.min() and table.max() <= np.iinfo(dtype).max:
            return table.astype(dtype)
    return table.astype(np.int32)


def look_up(table: npt.NDArray[np.integer], indices: tf.Tensor) -> tf.Tensor:
    """Return ``table[indices]`` as int32; every index must lie inside."""
    return tf.cast(tf.gather(table, indices), tf.int32)


def take(values: tf.Tensor, indices: tf.Tensor, fill: int) -> tf.Tensor:
    """Return ``values[indices]``, with ``fill`` wherever an index lies outside."""
    size = tf.shape(values)[0]
    inside = (indices >= 0) & (indices < size)
    return tf.where(inside, tf.gather(values, tf.clip_by_value(indices, 0, size - 1)), fill)


def shifted(values: tf.Tensor, offset: int, fill: int) -> tf.Tensor:
    """Return the array whose element ``i`` is ``values[i + offset]``, or ``fill`` outside."""
    size = tf.shape(values)[0]
    padding = [[max(-offset, 0), max(offset, 0)]]
    start = max(offset, 0)
    return tf.pad(values, padding, constant_values=fill)[start : start + size]


def shifted_flags(flags: tf.Tensor, offset: int) -> tf.Tensor:
    """Return the flags whose element ``i`` is ``flags[i + offset]``, False outside."""
    return shifted(tf.cast(flags, tf.int32), offset, 0) > 0


def running_count(flags: tf.Tensor) -> tf.Tensor:
    """Return how many flags are set up to and with each element."""
    return tf.cumsum(tf.cast(flags, tf.int32))


def set_positions(flags: tf.Tensor) -> tf.Tensor:
    """Return the positions of the flags that are set."""
    return tf.reshape(tf.cast(tf.where(flags), tf.int32), [-1])


def first_of_run(starts: tf.Tensor) -> tf.Tensor:
    """Return for each element the position of the latest start; the first element is one."""
    return tf.gather(set_positions(starts), running_count(starts) - 1)


def is_one_of(values: tf.Tensor, choices: str | bytes) -> tf.Tensor:
    """Return where a value is one of a few characters or bytes."""
    codes = choices if isinstance(choices, bytes) else map(ord, choices)
    found = tf.zeros_like(values, tf.bool)
    for code in codes:
        found |= tf.equal(values, code)
    return found


def insertions(flags: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Make room for one new element before every flag that is set.

    Returns:
        Which element stands at each place of the longer array, and which places are new; a new
        place has the element that it stands before.
    """
    pairs = tf.stack([flags, tf.ones_like(flags)], axis=1)
    kept = set_positions(tf.reshape(pairs, [-1]))
    return kept // 2, tf.equal(kept % 2, 0)
