"""What SentencePiece models do to a text before they cut it, and when they put it together."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import tensorflow as tf

from .arrays import (
    insertions,
    is_one_of,
    look_up,
    running_count,
    set_positions,
    shifted,
    shifted_flags,
    smallest_integers,
)
from .literals import Trie
from .pieces import PieceTable
from .sentencepiece_file import SentencePieceFile

_APART = -1  # in place of bytes: a control token, or the end of the text
_SPACE = ord(" ")
_WORD_BOUNDARY = "\u2581".encode()


@dataclass(frozen=True)
class Normalized:
    """A text in which every space is one byte 0x20, and the tokens found in it by name.

    Attributes:
        text: Bytes; -1 for a control token and, at last, for the end.
        tokens: The ids of control tokens, 0 at the end, elsewhere -1.
    """

    text: tf.Tensor
    tokens: tf.Tensor

    @property
    def apart(self) -> tf.Tensor:
        """The control tokens and the end; text between two of them stands for itself."""
        return tf.equal(self.text, _APART)


class Normalizer:
    """Puts spaces where a model wants them.

    Args:
        file: The model.
        special_tokens: Whether names of control tokens in the text stand for the tokens.
    """

    def __init__(self, file: SentencePieceFile, *, special_tokens: bool) -> None:
        self._dummy_prefix = file.dummy_prefix
        self._remove_extra_spaces = file.remove_extra_spaces
        controls = [token for token in file.ids("CONTROL") if file.pieces[token].name]
        self._controls: Trie | None = None
        if special_tokens and controls:
            self._controls = Trie([file.pieces[token].name.encode() for token in controls])
            self._control_tokens = smallest_integers(controls)

    def normalize(self, text: tf.Tensor) -> Normalized:
        """Return the normalized form of a text.

        Args:
            text: uint8 bytes.
        """
        text = tf.concat([tf.cast(text, tf.int32), [_APART]], 0)
        tokens = tf.where(tf.equal(text, _APART), 0, -1)
        dropped = tf.zeros_like(text, tf.bool)
        if self._controls is not None:
            matches = self._controls.find(text)
            found = look_up(self._control_tokens, tf.maximum(matches.entries, 0))
            tokens = tf.where(matches.starts, found, tokens)
            text = tf.where(matches.inside, _APART, text)
            dropped = matches.inside & ~matches.starts
        typed, typed_tail = _typed_boundaries(text)
        blank = tf.equal(text, _SPACE)
        text = tf.where(typed, _SPACE, text)
        kept = set_positions(~dropped & ~typed_tail)
        text, tokens = tf.gather(text, kept), tf.gather(tokens, kept)
        if self._remove_extra_spaces:
            kept = set_positions(~_extra_spaces(text, tf.gather(blank, kept)))
            text, tokens = tf.gather(text, kept), tf.gather(tokens, kept)
        if self._dummy_prefix:
            apart = tf.cast(tf.equal(text, _APART), tf.int32)
            source, new = insertions(shifted(apart, -1, 1) > apart)
            text = tf.where(new, _SPACE, tf.gather(text, source))
            tokens = tf.where(new, -1, tf.gather(tokens, source))
        return Normalized(text, tokens)


class Decoder:
    """Joins pieces, and takes away again the space that the model puts before a text.

    Args:
        file: The model.
    """

    def __init__(self, file: SentencePieceFile) -> None:
        content = file.bytes_of_tokens()
        self._pieces = PieceTable(content)
        self._strips = file.dummy_prefix or file.remove_extra_spaces
        with_space = [piece.is_text and piece.text[:1] == b" " for piece in file.pieces]
        blanks = [piece.is_text and piece.text == b" " for piece in file.pieces]
        self._with_space = np.array([*with_space, False], np.uint8)
        # With extra spaces removed, a lone space at the beginning is as if it were not there.
        silent = [
            not text or (file.remove_extra_spaces and blank)
            for text, blank in zip(content, blanks, strict=True)
        ]
        self._silent = np.array([*silent, True], np.uint8)

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ids; see ``GraphTokenizer.decode``."""
        ids = self._pieces.known(ids, count)
        if not self._strips:
            return self._pieces.join(ids)
        loud = tf.equal(look_up(self._silent, ids), 0)
        begins = tf.equal(running_count(loud) - tf.cast(loud, tf.int32), 0)
        return self._pieces.join(ids, tf.where(begins, look_up(self._with_space, ids), 0))


def merge_unknown(ids: tf.Tensor, unknown: int) -> tf.Tensor:
    """Return the ids with one unknown token for several in a row; the last id is not looked at."""
    found = tf.equal(ids, unknown)
    last = tf.equal(tf.range(tf.shape(ids)[0]), tf.shape(ids)[0] - 1)
    return tf.gather(ids, set_positions(last | ~(found & shifted_flags(found, -1))))


def _typed_boundaries(text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Where the text has a "▁" of its own, which stands for a space: first and other bytes."""
    first = tf.ones_like(text, tf.bool)
    for offset, byte in enumerate(_WORD_BOUNDARY):
        first &= tf.equal(shifted(text, offset, _APART), byte)
    return first, shifted_flags(first, -1) | shifted_flags(first, -2)


def _extra_spaces(text: tf.Tensor, blank: tf.Tensor) -> tf.Tensor:
    """The spaces at the ends of each part, and those that follow another one.

    Only at the end of a part, a typed "▁" is lost too.
    """
    before = tf.where(shifted_flags(blank, -1), _SPACE, shifted(text, -1, _APART))
    follows = shifted_flags(blank, -1) | tf.equal(before, _APART)
    space = is_one_of(text, b" ")
    runs = running_count(~space | ~shifted_flags(space, -1))
    ends = tf.cast(space & tf.equal(shifted(text, 1, _APART), _APART), tf.int32)
    trailing = tf.gather(tf.math.unsorted_segment_max(ends, runs, runs[-1] + 1), runs) > 0
    return (blank & follows) | (space & trailing)
