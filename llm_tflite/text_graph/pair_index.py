"""A sorted list of pairs, searched for many pairs at once."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from .arrays import Integers, look_up, smallest_integers


class PairIndex:
    """Finds the rows of pairs of small integers, in compressed row form and by bisection.

    Args:
        left: The first numbers of the pairs, from 0 to ``left_count - 1``.
        right: The second numbers, not negative. The pairs must be sorted and unique.
        left_count: How many first numbers there are.
    """

    def __init__(self, left: Integers, right: Integers, left_count: int) -> None:
        self._rows = np.searchsorted(left, np.arange(left_count + 1)).astype(np.int32)
        self._steps = int(np.diff(self._rows).max()).bit_length()
        # Bisection may look behind the last row; it never likes what it finds there.
        self._right = smallest_integers(np.concatenate([right, np.zeros(1 << self._steps)]))

    def find(self, left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
        """Return the row of each pair, or -1; a negative ``left`` is in no pair."""
        known = tf.maximum(left, 0)
        row = look_up(self._rows, known)
        end = look_up(self._rows, known + 1)
        for step in reversed(range(self._steps)):
            further = row + (1 << step)
            smaller = (further <= end) & (look_up(self._right, further - 1) < right)
            row = tf.where(smaller, further, row)
        found = (left >= 0) & (row < end) & tf.equal(look_up(self._right, row), right)
        return tf.where(found, row, -1)
