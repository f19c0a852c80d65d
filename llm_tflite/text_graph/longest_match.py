"""The longest token that fits, again and again (RWKV), in integer operators."""

from __future__ import annotations

from collections.abc import Mapping

import tensorflow as tf

from .arrays import look_up, set_positions, smallest_integers
from .literals import Trie
from .pieces import PieceTable

_END = -1  # stands behind the text, so that no array is ever empty


class LongestMatchGraph:
    """A tokenizer by the longest match as a graph.

    Args:
        tokens: The bytes of each token id; every byte is a token.
    """

    def __init__(self, tokens: Mapping[int, bytes]) -> None:
        self._trie = Trie(list(tokens.values()))
        self._ids = smallest_integers(list(tokens))
        self._pieces = PieceTable([tokens.get(token, b"") for token in range(max(tokens) + 1)])

    def encode(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids and their count; see ``GraphTokenizer.encode``."""
        entries, lengths = self._trie.longest(tf.concat([tf.cast(text, tf.int32), [_END]], 0))
        met = set_positions(_met_from_the_left(lengths) & (entries >= 0))
        ids = look_up(self._ids, tf.gather(entries, met))
        return tf.concat([ids, [0]], 0), tf.shape(ids)[0]

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ids; see ``GraphTokenizer.decode``."""
        return self._pieces.join(self._pieces.known(ids, count))


def _met_from_the_left(lengths: tf.Tensor) -> tf.Tensor:
    """The positions that are met when each is followed by the one ``lengths`` behind it.

    The last one has length 0. Every round doubles the length of the way that is known.
    """
    size = tf.shape(lengths)[0]

    def underway(nexts: tf.Tensor, met: tf.Tensor) -> tf.Tensor:
        del met
        return nexts[0] < size - 1

    def double(nexts: tf.Tensor, met: tf.Tensor) -> list[tf.Tensor]:
        return [tf.gather(nexts, nexts), met | _reached(nexts, met)]

    def _reached(nexts: tf.Tensor, met: tf.Tensor) -> tf.Tensor:
        return tf.scatter_nd(nexts[:, None], tf.cast(met, tf.int32), size[None]) > 0

    positions = tf.range(size)
    first = tf.equal(positions, 0)
    nexts, met = tf.while_loop(underway, double, [positions + lengths, first])
    return met | _reached(nexts, met)
