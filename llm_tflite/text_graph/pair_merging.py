"""Byte-pair encoding of all words at once: in each round every word merges its best pair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .arrays import (
    Integers,
    first_of_run,
    look_up,
    running_count,
    set_positions,
    shifted,
    shifted_flags,
    smallest_integers,
)
from .pair_index import PairIndex

_NEVER = 2**30


@dataclass(frozen=True)
class Merge:
    """Two neighbours become one token; of all pairs in a word the lowest rank goes first."""

    left: int
    right: int
    rank: int
    merged: int


class PairMerger:
    """The merges of a vocabulary.

    Args:
        merges: All merges, one for each pair.
        pieces: The bytes of every token that stands in one.
        token_count: How many tokens there are; every id lies below.
    """

    def __init__(
        self, merges: Sequence[Merge], pieces: Mapping[int, bytes], token_count: int
    ) -> None:
        # A merge of nothing, where there is none.
        rows = sorted(merges, key=attrgetter("left", "right")) or [Merge(token_count, 0, 0, 0)]
        left, right, rank, merged = (
            np.array([getattr(row, name) for row in rows], np.int32)
            for name in ("left", "right", "rank", "merged")
        )
        self._index = PairIndex(left, right, token_count + 1)
        self._rank = smallest_integers(rank)
        self._merged = smallest_integers(merged)
        self._joinable = _joinable_bytes(merges, pieces)
        self._hasty = _hasty_ranks(left, right, rank, merged, token_count)[rank]

    def cut(self, text: tf.Tensor, firsts: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Cut words where no merge leads across.

        That makes no difference for the ids, and parts of words merge side by side.

        Args:
            text: int32 bytes (-1 for what is none).
            firsts: The positions of the first bytes of tokens.
            words: The number of each byte's word, ascending.

        Returns:
            The number of each token's word, from 0.
        """
        first = tf.maximum(tf.gather(text, firsts), 0)
        before = tf.gather(text, tf.maximum(firsts - 1, 0))
        words = tf.gather(words, firsts)
        joined = look_up(self._joinable, tf.maximum(before, 0) * 256 + first) > 0
        return running_count(~joined | tf.not_equal(words, shifted(words, -1, -1))) - 1

    def merge(self, ids: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """Return the ids of all words after their merges.

        Args:
            ids: The tokens to begin with; at least one.
            words: The number of each token's word, ascending. Nothing merges across words.
        """
        word_count = words[-1] + 1
        unknown_length = tf.TensorShape([None])

        def another_round(ids: tf.Tensor, words: tf.Tensor, more: tf.Tensor) -> tf.Tensor:
            del ids, words
            return more

        def merge_best(ids: tf.Tensor, words: tf.Tensor, more: tf.Tensor) -> list[tf.Tensor]:
            del more
            row = self._rows(ids, words)
            chosen = self._choose(row, words, word_count)
            kept = set_positions(~shifted_flags(chosen, -1))
            merged = look_up(self._merged, tf.maximum(row, 0))
            ids = tf.gather(tf.where(chosen, merged, ids), kept)
            return [ids, tf.gather(words, kept), tf.reduce_any(chosen)]

        ids, _, _ = tf.while_loop(
            another_round,
            merge_best,
            [ids, words, tf.constant(True)],
            shape_invariants=[unknown_length, unknown_length, tf.TensorShape([])],
        )
        return ids

    def _rows(self, ids: tf.Tensor, words: tf.Tensor) -> tf.Tensor:
        """The merge of each token and its successor, or -1."""
        row = self._index.find(ids, shifted(ids, 1, -1))
        return tf.where(tf.equal(words, shifted(words, 1, -1)), row, -1)

    def _choose(self, row: tf.Tensor, words: tf.Tensor, word_count: tf.Tensor) -> tf.Tensor:
        """The left tokens of the pairs to merge now."""
        known = tf.maximum(row, 0)
        rank = tf.where(row >= 0, look_up(self._rank, known), _NEVER)
        best = tf.math.unsorted_segment_min(rank, words, word_count)
        chosen = (rank < _NEVER) & tf.equal(rank, tf.gather(best, words))
        positions = tf.range(tf.shape(rank)[0])
        # In "aaaa" the pairs overlap: from the left, every second one.
        first = first_of_run(~shifted_flags(chosen, -1) | ~chosen)
        every_second = chosen & tf.equal((positions - first) % 2, 0)
        if not self._hasty.any():
            return every_second
        leftmost = tf.math.unsorted_segment_min(
            tf.where(chosen, positions, _NEVER), words, word_count
        )
        alone = tf.equal(positions, tf.gather(leftmost, words))
        return tf.where(look_up(self._hasty, known) > 0, alone, every_second)


def _joinable_bytes(merges: Sequence[Merge], pieces: Mapping[int, bytes]) -> npt.NDArray[np.uint8]:
    """Flags for all pairs of bytes: whether any merge joins the one to the other."""
    joinable = np.zeros(256 * 256, np.uint8)
    for merge in merges:
        joinable[pieces[merge.left][-1] * 256 + pieces[merge.right][0]] = 1
    return joinable


def _hasty_ranks(
    left: Integers, right: Integers, rank: Integers, merged: Integers, token_count: int
) -> npt.NDArray[np.uint8]:
    """Flags for the ranks whose merges may make a pair that goes before the others of the rank.

    Such a pair may take a token away from its neighbours, so that these merges go one by one.
    """
    earliest_use = np.full(token_count + 1, _NEVER, np.int64)
    np.minimum.at(earliest_use, left, rank)
    np.minimum.at(earliest_use, right, rank)
    hasty = np.zeros(rank.max() + 1, np.uint8)
    hasty[rank[earliest_use[merged] <= rank]] = 1
    return hasty
