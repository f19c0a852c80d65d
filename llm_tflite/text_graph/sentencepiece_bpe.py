"""SentencePiece BPE (Llama 1 and 2, Mistral, Gemma) in integer operators."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from .arrays import (
    first_of_run,
    look_up,
    running_count,
    set_positions,
    shifted,
    smallest_integers,
)
from .literals import Trie
from .pair_index import PairIndex
from .pair_merging import Merge, PairMerger
from .sentencepiece_file import SentencePieceFile
from .sentencepiece_text import Decoder, Normalized, Normalizer, merge_unknown
from .utf8 import find_characters

_ROW = 256


class SentencePieceBpeGraph:
    """A SentencePiece BPE model as a graph.

    Bytes that are not UTF-8 become byte tokens where the model has them, and come back as they
    were; ``sentencepiece`` itself would replace them by U+FFFD.

    Args:
        file: The model.
        special_tokens: Whether the name of a control token in the text stands for the token.
    """

    def __init__(self, file: SentencePieceFile, *, special_tokens: bool) -> None:
        self._normalizer = Normalizer(file, special_tokens=special_tokens)
        self._decoder = Decoder(file)
        self._unknown = file.unknown
        self._byte_tokens = smallest_integers(file.byte_tokens) if file.byte_tokens else None
        self._merger = PairMerger(
            list(_merges(file)),
            {token: file.pieces[token].text for token in file.ids("NORMAL")},
            len(file.pieces),
        )
        characters = _single_characters(file)
        codes = np.array(sorted(characters) or [0], np.int32)
        self._character_index = PairIndex(codes // _ROW, codes % _ROW, 0x110000 // _ROW)
        self._character_tokens = smallest_integers(
            [characters.get(code, file.unknown) for code in codes.tolist()]
        )
        user_defined = file.ids("USER_DEFINED")
        self._user_defined: Trie | None = None
        if user_defined:
            self._user_defined = Trie([file.pieces[token].text for token in user_defined])
            self._user_defined_tokens = smallest_integers(user_defined)

    def encode(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids and their count; see ``GraphTokenizer.encode``."""
        normalized = self._normalizer.normalize(text)
        tokens, apart = self._tokens_of_characters(normalized)
        kept = set_positions(tokens >= 0)
        words = self._merger.cut(normalized.text, kept, running_count(apart))
        ids = self._merger.merge(tf.gather(tokens, kept), words)
        if self._byte_tokens is None:
            ids = merge_unknown(ids, self._unknown)
        return ids, tf.shape(ids)[0] - 1

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ids; see ``GraphTokenizer.decode``."""
        return self._decoder.decode(ids, count)

    def _tokens_of_characters(self, normalized: Normalized) -> tuple[tf.Tensor, tf.Tensor]:
        """Tokens at their first bytes (-1 elsewhere), and where those begin that never merge."""
        text = normalized.text
        characters = find_characters(text)
        code_points = characters.code_points
        row = self._character_index.find(code_points // _ROW, code_points % _ROW)
        known = look_up(self._character_tokens, tf.maximum(row, 0))
        if self._byte_tokens is None:
            tokens = tf.where(row >= 0, known, self._unknown)
            tokens = tf.where(characters.leads, tokens, -1)
        else:
            found = tf.gather(row >= 0, first_of_run(characters.leads))
            byte_token = look_up(self._byte_tokens, tf.maximum(text, 0))
            tokens = tf.where(found, tf.where(characters.leads, known, -1), byte_token)
        apart = normalized.apart
        tokens = tf.where(apart, normalized.tokens, tokens)
        if self._user_defined is None:
            return tokens, apart | _behind(apart)
        matches = self._user_defined.find(text)
        token = look_up(self._user_defined_tokens, tf.maximum(matches.entries, 0))
        tokens = tf.where(matches.inside, tf.where(matches.starts, token, -1), tokens)
        apart |= matches.inside
        return tokens, normalized.apart | matches.starts | _behind(apart)


def _behind(apart: tf.Tensor) -> tf.Tensor:
    """Where text begins behind something that is set apart."""
    flags = tf.cast(apart, tf.int32)
    return shifted(flags, -1, 0) > flags


def _single_characters(file: SentencePieceFile) -> dict[int, int]:
    """The tokens of single characters by code point."""
    texts = {token: file.pieces[token].text.decode("utf-8") for token in file.ids("NORMAL")}
    return {ord(text): token for token, text in texts.items() if len(text) == 1}


def _merges(file: SentencePieceFile) -> Iterator[Merge]:
    """All ways to make a piece of two others; those with the best scores go first."""
    texts = {file.pieces[token].text.decode("utf-8"): token for token in file.ids("NORMAL")}
    scores = np.array([file.pieces[token].score for token in texts.values()], np.float32)
    _, ranks = np.unique(-scores, return_inverse=True)
    for (text, token), rank in zip(texts.items(), ranks.reshape(-1).tolist(), strict=True):
        for size in range(1, len(text)):
            left, right = texts.get(text[:size]), texts.get(text[size:])
            if left is not None and right is not None:
                yield Merge(left, right, rank, token)
