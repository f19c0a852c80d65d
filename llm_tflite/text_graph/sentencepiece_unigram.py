"""SentencePiece unigram models: the likeliest way to cut a text, by the method of Viterbi."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla

from ..errors import UnsupportedModelError
from .arrays import (
    look_up,
    running_count,
    set_positions,
    shifted,
    smallest_integers,
    take,
)
from .literals import Trie
from .sentencepiece_file import SentencePieceFile
from .sentencepiece_text import Decoder, Normalized, Normalizer, merge_unknown
from .utf8 import Characters, find_characters

_IMPOSSIBLE = np.float32(-1e30)
_UNKNOWN_PENALTY = 10.0  # kUnkPenalty of sentencepiece/src/unigram_model.cc
_LONGEST_CHARACTER = 4


@dataclass(frozen=True)
class _Lattice:
    """All pieces in a text: element ``[e, k]`` is the one of ``k + 1`` bytes that ends at ``e``.

    Attributes:
        entries: Numbers of pieces, -1 for none.
        scores: Their scores.
    """

    entries: tf.Tensor
    scores: tf.Tensor


class SentencePieceUnigramGraph:
    """A SentencePiece unigram model as a graph.

    The search runs from byte to byte, and so takes its time. Sums are rounded to float32 over the
    whole text, as the library does it, so that ties fall the same way.

    Args:
        file: The model.
        special_tokens: Whether the name of a control token in the text stands for the token.

    Raises:
        UnsupportedModelError: The model has user-defined pieces.
    """

    def __init__(self, file: SentencePieceFile, *, special_tokens: bool) -> None:
        self._normalizer = Normalizer(file, special_tokens=special_tokens)
        self._decoder = Decoder(file)
        self._unknown = file.unknown
        self._byte_tokens = smallest_integers(file.byte_tokens) if file.byte_tokens else None
        if user_defined := file.ids("USER_DEFINED"):
            found = file.pieces[user_defined[0]].name
            # The library's releases differ in the bonus that these get.
            raise UnsupportedModelError(
                f"expected a SentencePiece unigram model without user-defined pieces, found "
                f"{found!r}; keep the tokenizer outside of the graph"
            )
        tokens = file.ids("NORMAL")
        self._trie = Trie([file.pieces[token].text for token in tokens])
        # Behind the pieces stands the unknown character.
        self._tokens = smallest_integers([*tokens, file.unknown])
        self._unknown_entry = len(tokens)
        self._scores = _scores(file, tokens)

    def encode(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids and their count; see ``GraphTokenizer.encode``."""
        normalized = self._normalizer.normalize(text)
        lattice = self._lattice(normalized.text, find_characters(normalized.text))
        lengths = _best_lengths(lattice, normalized.apart)
        tokens = self._tokens_at_ends(normalized, lattice, lengths)
        ids = tf.gather(tokens, set_positions(tokens >= 0))
        if self._byte_tokens is None:
            ids = merge_unknown(ids, self._unknown)
        return ids, tf.shape(ids)[0] - 1

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ids; see ``GraphTokenizer.decode``."""
        return self._decoder.decode(ids, count)

    def _lattice(self, text: tf.Tensor, characters: Characters) -> _Lattice:
        positions = tf.range(tf.shape(text)[0])

        def alive(depth: tf.Tensor, nodes: tf.Tensor, rows: tf.Tensor) -> tf.Tensor:
            del rows
            return (depth < _LONGEST_CHARACTER) | tf.reduce_any(nodes >= 0)

        def walk(depth: tf.Tensor, nodes: tf.Tensor, rows: tf.Tensor) -> list[tf.Tensor]:
            nodes = self._trie.step(nodes, take(text, positions + depth, -1))
            entry = self._trie.entry(nodes)
            whole = characters.leads & tf.equal(characters.sizes, depth + 1)
            entry = tf.where(whole & (entry < 0), self._unknown_entry, entry)
            row = take(entry, positions - depth, -1)
            return [depth + 1, nodes, tf.concat([rows, row[None]], 0)]

        no_rows = tf.zeros([1, tf.shape(text)[0]], tf.int32)
        _, _, rows = tf.while_loop(
            alive,
            walk,
            [tf.constant(0), tf.zeros_like(text), no_rows],
            shape_invariants=[
                tf.TensorShape([]),
                tf.TensorShape([None]),
                tf.TensorShape([None, None]),
            ],
        )
        entries = tf.transpose(rows[1:])
        number = tf.maximum(entries, 0)
        scores = tf.where(entries >= 0, tf.gather(self._scores, number), _IMPOSSIBLE)
        return _Lattice(entries, scores)

    def _tokens_at_ends(
        self, normalized: Normalized, lattice: _Lattice, lengths: tf.Tensor
    ) -> tf.Tensor:
        """Tokens of the best way, at the last bytes of its pieces; -1 elsewhere."""
        ends = _ends_of_best_way(lengths)
        width = tf.shape(lattice.entries)[1]
        at = tf.range(tf.shape(lengths)[0]) * width + lengths - 1
        entries = tf.gather(tf.reshape(lattice.entries, [-1]), at)
        tokens = tf.where(ends, look_up(self._tokens, tf.maximum(entries, 0)), -1)
        if self._byte_tokens is not None:
            first = shifted(tf.cast(ends, tf.int32), -1, 1) > 0
            piece = tf.gather(entries, set_positions(ends))
            of_piece = tf.gather(piece, running_count(first) - 1)
            byte_token = look_up(self._byte_tokens, tf.maximum(normalized.text, 0))
            tokens = tf.where(tf.equal(of_piece, self._unknown_entry), byte_token, tokens)
        return tf.where(normalized.apart, normalized.tokens, tokens)


def _best_lengths(lattice: _Lattice, apart: tf.Tensor) -> tf.Tensor:
    """For each byte, how long the last piece is on the best way that ends behind it."""
    size, width = (tf.shape(lattice.entries)[axis] for axis in (0, 1))
    places = tf.range(width)

    def more(end: tf.Tensor, *state: tf.Tensor) -> tf.Tensor:
        del state
        return end < size

    def step(end: tf.Tensor, before: tf.Tensor, lengths: tf.Tensor) -> list[tf.Tensor]:
        sums = before + tf.gather(lattice.scores, end)
        best = tf.reduce_max(sums)
        # The library goes from the longest piece to the shortest and keeps the first of equals.
        place = tf.reduce_max(tf.where(tf.equal(sums, best), places, -1))
        alone = tf.gather(apart, end)
        best = tf.where(alone, 0.0, tf.maximum(best, _IMPOSSIBLE))
        length = tf.where(alone, 1, place + 1)
        lengths = xla.dynamic_update_slice(lengths, length[None], end[None])
        return [end + 1, tf.concat([best[None], before[:-1]], 0), lengths]

    nothing = tf.fill(width[None] - 1, _IMPOSSIBLE)
    start = tf.concat([tf.zeros([1]), nothing], 0)
    unknown = tf.TensorShape([None])
    _, _, lengths = tf.while_loop(
        more,
        step,
        [tf.constant(0), start, tf.ones([size], tf.int32)],
        shape_invariants=[tf.TensorShape([]), unknown, unknown],
    )
    return lengths


def _ends_of_best_way(lengths: tf.Tensor) -> tf.Tensor:
    """The last bytes of the pieces on the way that ends with the text, by doubling strides."""
    size = tf.shape(lengths)[0]
    positions = tf.range(size)

    def more(stride: tf.Tensor, *state: tf.Tensor) -> tf.Tensor:
        del state
        return stride < size

    def double(stride: tf.Tensor, back: tf.Tensor, marks: tf.Tensor) -> list[tf.Tensor]:
        reached = tf.scatter_nd((back + 1)[:, None], marks, (size + 1)[None])[1:]
        marks = tf.minimum(marks + reached, 1)
        return [stride * 2, take(back, back, -1), marks]

    last = tf.cast(tf.equal(positions, size - 1), tf.int32)
    _, _, marks = tf.while_loop(more, double, [tf.constant(1), positions - lengths, last])
    return marks > 0


def _scores(file: SentencePieceFile, tokens: list[int]) -> npt.NDArray[np.float32]:
    """The scores of pieces, and of the unknown character."""
    scores = np.array([file.pieces[token].score for token in tokens], np.float32)
    return np.append(scores, scores.min() - np.float32(_UNKNOWN_PENALTY)).astype(np.float32)
