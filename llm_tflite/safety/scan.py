"""Finding words of a list in a text that arrives in pieces."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from .folding import Kind, continues_character, fold_character, is_letter, kind
from .word_list import END_OF_WORD, WordList

_DIGITS = {"0": "o", "1": "i", "3": "e", "4": "a", "5": "s", "7": "t"}
_SIGNS = {"@": "a", "$": "s"}


@dataclass(frozen=True)
class Match:
    """A listed word in a text.

    Attributes:
        entry: The word as it stands in the list.
        start: Index of its first character in the text.
        end: Index after its last one.
    """

    entry: str
    start: int
    end: int


class Scan:
    """Looks for the words of a list, character by character.

    A match counts as soon as the character after it is known, or the end of the text. The one that
    ends first wins, of those that end together the one that begins first; so the result does not
    depend on how the text was cut into pieces.

    Attributes:
        match: The first match, or None.
        undecided: Index of the first character that may still be part of a match.
    """

    def __init__(self, words: WordList) -> None:
        """Begin a text."""
        self.match: Match | None = None
        self.undecided = 0
        self._length = 0
        self._finders: list[_Phrases | _Substrings] = []
        if words.phrases:
            # As it stands; with digits and signs as letters; and once more with "!" left as it is.
            readings: tuple[dict[str, str], ...] = (
                {},
                {**_DIGITS, **_SIGNS, "!": "i"},
                {**_DIGITS, **_SIGNS},
            )
            self._finders += (_Phrases(words, alike) for alike in readings)
        if words.substrings:
            self._finders.append(_Substrings(words))

    def push(self, text: str) -> None:
        """Read on."""
        for character in text:
            if self.match is not None:
                return
            for folded in fold_character(character):
                self._take(folded, kind(folded))
                if self.match is not None:
                    return
            self._length += 1
        starts = [finder.undecided for finder in self._finders]
        self.undecided = min([self._length, *(start for start in starts if start is not None)])

    def finish(self) -> None:
        """Learn that the text ends here."""
        if self.match is None:
            self.undecided = self._length
            self._take("", "other")

    def _take(self, folded: str, its_kind: Kind) -> None:
        found = [
            match
            for finder in self._finders
            for match in finder.take(folded, its_kind, self._length)
        ]
        if found:
            self.match = min(found, key=lambda match: match.start)
            self.undecided = self.match.start


@dataclass(frozen=True)
class _Candidate:
    """What was read from ``start`` on, as a beginning of a phrase."""

    start: int
    text: str
    alike: bool  # The word that is being read is read with look-alikes as letters.


class _Phrases:
    """Finds whole words, in one of the ways in which a text can be read.

    Where digits and signs are read as letters, signs are parts of words, and a word without any
    letter stays what it is: 455 is a number.
    """

    def __init__(self, words: WordList, alike: dict[str, str]) -> None:
        self._words = words
        self._alike = alike
        self._candidates: list[_Candidate] = []
        self._in_word = False
        self._has_letter = False
        self._end = 0

    @property
    def undecided(self) -> int | None:
        return min((candidate.start for candidate in self._candidates), default=None)

    def take(self, folded: str, its_kind: Kind, index: int) -> Iterator[Match]:
        if its_kind == "word" or folded in self._alike:
            self._extend(folded, index)
        elif self._in_word:
            yield from self._close()

    def _extend(self, folded: str, index: int) -> None:
        if not self._in_word:
            self._begin(index)
        self._end = index + 1
        self._has_letter = self._has_letter or is_letter(folded)
        alike = self._alike.get(folded, folded)
        longer = (
            replace(c, text=c.text + (alike if c.alike else folded)) for c in self._candidates
        )
        self._candidates = [c for c in longer if c.text in self._words.phrase_beginnings]

    def _begin(self, index: int) -> None:
        self._in_word, self._has_letter = True, False
        self._candidates = [
            _Candidate(start, text, alike)
            for start, text in [*((c.start, c.text) for c in self._candidates), (index, "")]
            for alike in ((False, True) if self._alike else (False,))
        ]

    def _close(self) -> Iterator[Match]:
        self._in_word = False
        closed = []
        for candidate in self._candidates:
            if self._alike and candidate.alike != self._has_letter:
                continue
            text = candidate.text + END_OF_WORD
            if text in self._words.phrases:
                yield Match(self._words.phrases[text], candidate.start, self._end)
            if text in self._words.phrase_beginnings:
                closed.append(_Candidate(candidate.start, text, False))
        self._candidates = closed


class _Substrings:
    """Finds entries anywhere in the text, for scripts without spaces."""

    def __init__(self, words: WordList) -> None:
        self._words = words
        self._candidates: list[tuple[int, str]] = []
        self._end = 0

    @property
    def undecided(self) -> int | None:
        return min((start for start, _ in self._candidates), default=None)

    def take(self, folded: str, its_kind: Kind, index: int) -> Iterator[Match]:
        del its_kind
        if not folded or not continues_character(folded):
            for start, text in self._candidates:
                if text in self._words.substrings:
                    yield Match(self._words.substrings[text], start, self._end)
        longer = ((start, text + folded) for start, text in [*self._candidates, (index, "")])
        beginnings = self._words.substring_beginnings
        self._candidates = [(start, text) for start, text in longer if text in beginnings]
        self._end = index + 1
