"""Fixed byte strings in a text: names of control tokens, user-defined pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from .arrays import look_up, shifted, smallest_integers, take
from .pair_index import PairIndex


@dataclass(frozen=True)
class Matches:
    """Where literals stand in a text.

    Attributes:
        entries: At the first byte of a match the number of its literal, elsewhere -1.
        inside: The bytes of all matches.
    """

    entries: tf.Tensor
    inside: tf.Tensor

    @property
    def starts(self) -> tf.Tensor:
        """The first bytes of the matches."""
        return self.entries >= 0


class Trie:
    """Byte strings, as a tree that is walked from all positions of a text at once.

    Args:
        literals: Different, not empty; numbered in this order.
    """

    def __init__(self, literals: Sequence[bytes]) -> None:
        prefixes = {text[:size] for text in literals for size in range(1, len(text) + 1)}
        # By length and then by name: the edges then are sorted, and edge k leads to node k + 1.
        names = [b"", *sorted(prefixes, key=lambda prefix: (len(prefix), prefix))]
        nodes = {name: node for node, name in enumerate(names)}
        parents = np.array([nodes[name[:-1]] for name in names[1:]], np.int32)
        last_bytes = np.array([name[-1] for name in names[1:]], np.int32)
        self._edges = PairIndex(parents, last_bytes, len(names))
        numbers = {text: number for number, text in enumerate(literals)}
        self._entries = smallest_integers([numbers.get(name, -1) for name in names])
        self.depth = max(map(len, literals))

    def step(self, nodes: tf.Tensor, following: tf.Tensor) -> tf.Tensor:
        """Return the node behind each node (0 is the root) and byte, or -1."""
        edge = self._edges.find(nodes, following)
        return tf.where(edge >= 0, edge + 1, -1)

    def entry(self, nodes: tf.Tensor) -> tf.Tensor:
        """Return the number of the literal that ends at each node, or -1."""
        return tf.where(nodes >= 0, look_up(self._entries, tf.maximum(nodes, 0)), -1)

    def longest(
        self, text: tf.Tensor, active: tf.Tensor | None = None, ends: tf.Tensor | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Return number and length of the longest literal from each position; -1 and 0 for none.

        Args:
            text: int32 bytes; numbers that are no bytes (-1) are in no literal.
            active: The positions to look at.
            ends: For each position, where a literal must have ended.
        """
        positions = tf.range(tf.shape(text)[0])
        nodes = tf.zeros_like(text) if active is None else tf.where(active, 0, -1)

        def alive(depth: tf.Tensor, nodes: tf.Tensor, *found: tf.Tensor) -> tf.Tensor:
            del depth, found
            return tf.reduce_any(nodes >= 0)

        def walk(
            depth: tf.Tensor, nodes: tf.Tensor, entries: tf.Tensor, lengths: tf.Tensor
        ) -> list[tf.Tensor]:
            at = positions + depth
            nodes = self.step(nodes, take(text, at, -1))
            if ends is not None:
                nodes = tf.where(at < ends, nodes, -1)
            entry = self.entry(nodes)
            entries = tf.where(entry >= 0, entry, entries)
            return [depth + 1, nodes, entries, tf.where(entry >= 0, depth + 1, lengths)]

        nothing = [tf.fill(tf.shape(text), -1), tf.zeros_like(text)]
        _, _, entries, lengths = tf.while_loop(alive, walk, [tf.constant(0), nodes, *nothing])
        return entries, lengths

    def find(self, text: tf.Tensor) -> Matches:
        """Return the matches of a scan from the left that takes the longest literal it meets."""
        entries, lengths = self.longest(text)

        def undecided(candidates: tf.Tensor, accepted: tf.Tensor) -> tf.Tensor:
            del accepted
            return tf.reduce_any(candidates)

        def decide(candidates: tf.Tensor, accepted: tf.Tensor) -> list[tf.Tensor]:
            # Where no candidate from further left reaches, the scan arrives.
            met = candidates & ~_overlapped(candidates, lengths)
            return [candidates & ~met & ~_overlapped(met, lengths), accepted | met]

        candidates = entries >= 0
        _, accepted = tf.while_loop(undecided, decide, [candidates, tf.zeros_like(candidates)])
        return Matches(tf.where(accepted, entries, -1), accepted | _overlapped(accepted, lengths))


def _overlapped(starts: tf.Tensor, lengths: tf.Tensor) -> tf.Tensor:
    """The positions in matches, without their first bytes."""
    weights = tf.cast(starts, tf.int32)
    size = tf.shape(starts)[0]
    ends = (tf.range(size) + lengths)[:, None]
    closed = tf.scatter_nd(ends, weights, (size + 1)[None])[:size]
    return tf.cumsum(shifted(weights, -1, 0) - closed) > 0
