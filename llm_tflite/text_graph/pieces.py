"""Token ids back to bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from .arrays import look_up, running_count, smallest_integers


class PieceTable:
    """The bytes of every token.

    Args:
        pieces: By id; nothing for tokens that are not text.
    """

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._count = len(pieces)
        # One more, empty: what ids outside the vocabulary stand for.
        ends = np.cumsum([0, *map(len, pieces), 0])
        self._begins = smallest_integers(ends)
        self._bytes = np.frombuffer(b"".join(pieces) + b"\0", np.uint8)

    def known(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the first ``count`` ids as they are, and one without bytes for all others."""
        inside = (ids >= 0) & (ids < self._count) & (tf.range(tf.shape(ids)[0]) < count)
        return tf.where(inside, ids, self._count)

    def join(self, ids: tf.Tensor, skipped: tf.Tensor | int = 0) -> tf.Tensor:
        """Return the bytes of all tokens, one after the other, as uint8.

        Args:
            ids: As ``known`` gives them.
            skipped: How many of its first bytes each token goes without.
        """
        begins = look_up(self._begins, ids) + skipped
        lengths = look_up(self._begins, ids + 1) - begins
        kept = tf.reshape(tf.where(lengths > 0), [-1])
        begins, lengths = tf.gather(begins, kept), tf.gather(lengths, kept)
        targets = tf.cumsum(lengths) - lengths
        total = tf.reduce_sum(lengths)
        firsts = tf.scatter_nd(targets[:, None], tf.ones_like(targets), total[None])
        owner = running_count(firsts > 0) - 1
        offset = tf.range(total) - tf.gather(targets, owner)
        return tf.gather(self._bytes, tf.gather(begins, owner) + offset)
