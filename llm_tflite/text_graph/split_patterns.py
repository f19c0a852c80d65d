r"""Pre-tokenization: where words begin, by rules on neighbours instead of regular expressions.

Every pattern here matches from the left and never looks further back than its own match, so that
the place where a match begins follows from a few characters and from the runs that they are in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import tensorflow as tf

from ..split_regexes import GPT2, LLAMA3, QWEN2
from .arrays import (
    first_of_run,
    is_one_of,
    running_count,
    set_positions,
    shifted,
    shifted_flags,
)
from .character_classes import (
    APART,
    LETTER,
    NUMBER,
    OTHER,
    SPACE,
    ClassTable,
    digit_classes,
    regex_classes,
)
from .literals import Trie
from .utf8 import find_characters

_LONG_S = 0x17F  # the old long s is an "s" where case does not matter


class Splitter(Protocol):
    """Finds words in text."""

    def starts(self, text: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
        """Return the first bytes of words.

        Args:
            text: int32 bytes.
            apart: The bytes that are no text; what is said about them does not count.
        """


class NoSplitter:
    """All text is one word."""

    def starts(self, text: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
        """Return no first bytes; see ``Splitter.starts``."""
        del text
        return tf.zeros_like(apart)


class LiteralSplitter:
    """Cuts a literal out of the text.

    This is what KerasHub's byte-pair tokenizers do: they hand their regular expression over as a
    plain string.
    """

    def __init__(self, literal: str) -> None:
        self._literal = Trie([literal.encode("utf-8")])

    def starts(self, text: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
        """Return where the literal begins and where it ended; see ``Splitter.starts``."""
        matches = self._literal.find(tf.where(apart, -1, text))
        return matches.starts | (shifted_flags(matches.inside, -1) & ~matches.inside)


@dataclass(frozen=True)
class Line:
    """The characters of a text with their classes; code points are -1 where they are APART."""

    code_points: tf.Tensor
    classes: tf.Tensor

    @property
    def before(self) -> tf.Tensor:
        """The class of each character's predecessor."""
        return shifted(self.classes, -1, APART)

    @property
    def after(self) -> tf.Tensor:
        """The class of each character's successor."""
        return shifted(self.classes, 1, APART)

    def ahead(self, distance: int) -> tf.Tensor:
        """The code point that many characters further on."""
        return shifted(self.code_points, distance, -1)


class PatternSplitter:
    """Cuts as one of the known regular expressions.

    Args:
        rule: Where its matches begin.
        individual_digits: Whether digits are cut out before.
    """

    def __init__(
        self, rule: Callable[[Line], tf.Tensor], *, individual_digits: bool = False
    ) -> None:
        self._rule = rule
        self._classes = ClassTable(regex_classes())
        self._digits = ClassTable(digit_classes()) if individual_digits else None

    def starts(self, text: tf.Tensor, apart: tf.Tensor) -> tf.Tensor:
        """Return the first bytes of matches; see ``Splitter.starts``."""
        characters = find_characters(text)
        leads = set_positions(characters.leads)
        code_points = tf.gather(tf.where(apart, -1, characters.code_points), leads)
        classes = tf.where(tf.gather(apart, leads), APART, self._classes.of(code_points))
        digits = tf.zeros_like(classes, tf.bool)
        if self._digits is not None:
            digits = self._digits.of(code_points) > 0
            classes = tf.where(digits, APART, classes)
            code_points = tf.where(digits, -1, code_points)
        starts = self._rule(Line(code_points, classes)) | digits
        return characters.leads & tf.gather(starts, running_count(characters.leads) - 1)


def gpt2_starts(line: Line) -> tf.Tensor:
    """Return where the matches of ``GPT2`` begin."""
    space = tf.equal(line.classes, SPACE)
    behind_space = tf.equal(line.before, SPACE)
    # The last white space before a word is not part of the run; a plain blank joins the word.
    starts_space = ~behind_space | ~_is_space_or_apart(line.after)
    starts_word = tf.where(
        behind_space,
        tf.not_equal(line.ahead(-1), ord(" ")),
        tf.not_equal(line.before, line.classes),
    )
    return _cut_contractions(line, tf.where(space, starts_space, starts_word))


def llama3_starts(line: Line) -> tf.Tensor:
    """Return where the matches of ``LLAMA3`` begin."""
    number = tf.equal(line.classes, NUMBER)
    first = first_of_run(~number | tf.not_equal(line.before, NUMBER))
    place = tf.range(tf.shape(first)[0]) - first
    return _word_starts(line) | (number & tf.equal(place % 3, 0))


def qwen2_starts(line: Line) -> tf.Tensor:
    """Return where the matches of ``QWEN2`` begin."""
    return _word_starts(line) | tf.equal(line.classes, NUMBER)


def _is_space_or_apart(classes: tf.Tensor) -> tf.Tensor:
    r"""Return where ``\s`` matches or the text ends."""
    return tf.equal(classes, SPACE) | tf.equal(classes, APART)


def _word_starts(line: Line) -> tf.Tensor:
    """Where all matches of the younger patterns begin, except those of numbers."""
    behind_blank = tf.equal(line.ahead(-1), ord(" "))
    other = tf.equal(line.classes, OTHER)
    newline = is_one_of(line.code_points, "\r\n")
    starts_other = other & tf.not_equal(line.before, OTHER) & ~behind_blank
    # One sign or white space joins the letters behind it, unless the sign has joined a blank.
    prefix = starts_other | (tf.equal(line.classes, SPACE) & ~newline)
    starts_letters = tf.equal(line.classes, LETTER) & tf.not_equal(line.before, LETTER)
    starts_letters &= ~shifted_flags(prefix, -1)
    starts = _cut_contractions(line, starts_other | starts_letters, ignore_case=True)
    return starts | _space_starts(line, newline)


def _space_starts(line: Line, newline: tf.Tensor) -> tf.Tensor:
    r"""Where matches of ``\s*[\r\n]+|\s+(?!\S)|\s+`` begin."""
    positions = tf.range(tf.shape(newline)[0])
    newlines_first = first_of_run(~newline | ~shifted_flags(newline, -1))
    joined = newline & tf.equal(tf.gather(line.before, newlines_first), OTHER)
    space = tf.equal(line.classes, SPACE) & ~joined
    first = ~space | ~shifted_flags(space, -1)
    runs = running_count(first)
    last_newline = tf.gather(
        tf.math.unsorted_segment_max(tf.where(newline, positions, -1), runs, runs[-1] + 1), runs
    )
    last = (positions > last_newline) & ~_is_space_or_apart(line.after)
    return space & (first | tf.equal(positions, last_newline + 1) | last)


def _cut_contractions(line: Line, starts: tf.Tensor, *, ignore_case: bool = False) -> tf.Tensor:
    """Add and remove starts so that ``'s``, ``'re``... are words where one begins."""
    code_points = line.code_points
    if ignore_case:
        capital = (code_points >= ord("A")) & (code_points <= ord("Z"))
        code_points = tf.where(capital, code_points + 0x20, code_points)
        code_points = tf.where(tf.equal(code_points, _LONG_S), ord("s"), code_points)
    one, two = (shifted(code_points, distance, -1) for distance in (1, 2))
    apostrophe = starts & tf.equal(code_points, ord("'"))
    short = apostrophe & is_one_of(one, "stmd")
    long = is_one_of(one, "rv") & is_one_of(two, "e")
    long = apostrophe & (long | (is_one_of(one, "l") & is_one_of(two, "l")))
    inside = shifted_flags(short | long, -1) | shifted_flags(long, -2)
    return (starts & ~inside) | shifted_flags(short, -2) | shifted_flags(long, -3)


PATTERNS: dict[str, Callable[[Line], tf.Tensor]] = {
    GPT2: gpt2_starts,
    LLAMA3: llama3_starts,
    QWEN2: qwen2_starts,
}
"""The regular expressions that published tokenizers have, and where their matches begin."""
