"""Byte-level BPE (GPT-2, Llama 3, Qwen, SmolLM...) in integer operators."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from ..tokenizers import byte_alphabet
from .arrays import (
    insertions,
    look_up,
    running_count,
    set_positions,
    shifted,
    shifted_flags,
    smallest_integers,
    take,
)
from .hf_file import BytePairFile, bytes_of, read_byte_pair_file
from .literals import Trie
from .pair_merging import Merge, PairMerger
from .pieces import PieceTable

_END = -1  # stands behind the text, so that no array is ever empty


@dataclass(frozen=True)
class _MarkedText:
    """A text and the tokens that have been found in it by name.

    Attributes:
        text: The bytes, and ``_END``.
        tokens: The id of a token at its first byte, elsewhere -1.
        apart: All bytes of those tokens, and ``_END``.
    """

    text: tf.Tensor
    tokens: tf.Tensor
    apart: tf.Tensor

    def starts(self) -> tf.Tensor:
        """Where tokens begin, and text before and behind them."""
        apart = tf.cast(self.apart, tf.int32)
        changes = tf.not_equal(apart, shifted(apart, -1, -1))
        return changes | (self.tokens >= 0) | tf.equal(self.text, _END)


class ByteLevelGraph:
    """A byte-level BPE tokenizer as a graph.

    Args:
        data: A ``tokenizer.json``.
        special_tokens: Whether the name of a control token in the text stands for the token.

    Raises:
        UnsupportedModelError: It asks for something that has no graph.
    """

    def __init__(self, data: bytes, *, special_tokens: bool) -> None:
        file = read_byte_pair_file(data)
        pieces = file.pieces()
        self._splitter = file.splitter
        self._prefix_space = file.prefix_space
        self._pieces = PieceTable(pieces)
        self._byte_tokens = smallest_integers(_byte_tokens(file))
        merged = {piece for pair in file.merges for piece in pair}
        self._merger = PairMerger(
            _merges(file),
            {file.vocabulary[piece]: bytes_of(piece) for piece in merged},
            len(pieces),
        )
        self._added: Trie | None = None
        if file.added:
            self._added = Trie([token.name for token in file.added])
            self._added_tokens = smallest_integers(
                [token.token if special_tokens or not token.special else -1 for token in file.added]
            )
        self._whole_words: Trie | None = None
        if file.ignore_merges and (words := _unmergeable_words(file)):
            self._whole_words = Trie([bytes_of(word) for word in words])
            self._whole_word_tokens = smallest_integers([file.vocabulary[word] for word in words])

    def encode(self, text: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return ids and their count; see ``GraphTokenizer.encode``."""
        marked = self._find_added(tf.concat([tf.cast(text, tf.int32), [_END]], 0))
        if self._prefix_space:
            marked = _with_prefix_space(marked)
        starts = marked.starts() | (
            self._splitter.starts(marked.text, marked.apart) & ~marked.apart
        )
        if self._whole_words is not None:
            marked = self._find_whole_words(self._whole_words, marked, starts)
        ids, words = self._tokens_of_bytes(marked, running_count(starts))
        ids = self._merger.merge(ids, words)
        return ids, tf.shape(ids)[0] - 1

    def decode(self, ids: tf.Tensor, count: tf.Tensor) -> tf.Tensor:
        """Return the bytes of the first ids; see ``GraphTokenizer.decode``."""
        return self._pieces.join(self._pieces.known(ids, count))

    def _find_added(self, text: tf.Tensor) -> _MarkedText:
        end = tf.equal(text, _END)
        nothing = tf.fill(tf.shape(text), -1)
        if self._added is None:
            return _MarkedText(text, nothing, end)
        matches = self._added.find(text)
        tokens = look_up(self._added_tokens, tf.maximum(matches.entries, 0))
        tokens = tf.where(matches.starts, tokens, -1)
        # A control token that is not asked for is text, but no other token begins within it.
        latest = tf.concat([[-1], tf.gather(tokens, set_positions(matches.starts))], 0)
        taken = tf.gather(latest, running_count(matches.starts)) >= 0
        return _MarkedText(text, tokens, (matches.inside & taken) | end)

    def _find_whole_words(self, trie: Trie, marked: _MarkedText, starts: tf.Tensor) -> _MarkedText:
        """Take words as they are that merges would not make."""
        size = tf.shape(starts)[0]
        ends = take(set_positions(starts), running_count(starts), _END)
        ends = tf.where(ends < 0, size, ends)
        entries, lengths = trie.longest(marked.text, starts & ~marked.apart, ends)
        whole = (entries >= 0) & tf.equal(tf.range(size) + lengths, ends)
        token = look_up(self._whole_word_tokens, tf.maximum(entries, 0))
        inside = tf.gather(tf.gather(whole, set_positions(starts)), running_count(starts) - 1)
        return _MarkedText(
            marked.text, tf.where(whole, token, marked.tokens), marked.apart | inside
        )

    def _tokens_of_bytes(
        self, marked: _MarkedText, words: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """One token for each byte (``_END`` is token 0), and the number of each one's word."""
        plain = look_up(self._byte_tokens, tf.maximum(marked.text, 0))
        tokens = tf.where(marked.apart, -1, plain)
        tokens = tf.where(marked.tokens >= 0, marked.tokens, tokens)
        tokens = tf.where(tf.equal(marked.text, _END), 0, tokens)
        # Bytes that the vocabulary does not have are left out, as the library does.
        kept = set_positions(tokens >= 0)
        text = tf.gather(marked.text, kept)
        words = self._merger.cut(text, tf.range(tf.shape(kept)[0]), tf.gather(words, kept))
        return tf.gather(tokens, kept), words


def _with_prefix_space(marked: _MarkedText) -> _MarkedText:
    """Put a space before each part of the text that does not begin with one."""
    begins = ~marked.apart & (shifted_flags(marked.apart, -1) | ~_has_predecessor(marked.text))
    source, new = insertions(begins & tf.not_equal(marked.text, ord(" ")))
    text, tokens, apart = (
        tf.gather(column, source) for column in (marked.text, marked.tokens, marked.apart)
    )
    return _MarkedText(tf.where(new, ord(" "), text), tokens, apart)


def _has_predecessor(values: tf.Tensor) -> tf.Tensor:
    return tf.range(tf.shape(values)[0]) > 0


def _byte_tokens(file: BytePairFile) -> list[int]:
    """The token of each byte, -1 for bytes that the vocabulary does not have."""
    names = {byte: character for character, byte in byte_alphabet().items()}
    return [file.vocabulary.get(names[byte], -1) for byte in range(256)]


def _merges(file: BytePairFile) -> list[Merge]:
    """The merges in numbers; of those that are given twice the last counts, as in the library."""
    pairs = {pair: rank for rank, pair in enumerate(file.merges)}
    ids = file.vocabulary
    return [
        Merge(ids[left], ids[right], rank, ids[left + right])
        for (left, right), rank in pairs.items()
    ]


def _unmergeable_words(file: BytePairFile) -> list[str]:
    """The words of the vocabulary that its merges do not make."""
    from tokenizers import models

    model = models.BPE(file.vocabulary, file.merges)
    alphabet = byte_alphabet().keys()
    words = (word for word in file.vocabulary if word and alphabet >= set(word))
    return [
        word for word in words if [t.id for t in model.tokenize(word)] != [file.vocabulary[word]]
    ]
