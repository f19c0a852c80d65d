"""Words and phrases that shall not appear, as the scan looks for them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import Self

from ..errors import InvalidOptionError
from .folding import fold, kind

# Between the words of a phrase; no word has it.
END_OF_WORD = "\0"


@dataclass(frozen=True)
class WordList:
    """Entries, folded.

    Attributes:
        phrases: Whole words with ``END_OF_WORD`` after each, and the entry that they come from.
        phrase_beginnings: Every beginning of each of them.
        substrings: Entries with characters of scripts without spaces.
        substring_beginnings: Every beginning of each of them.
    """

    phrases: dict[str, str]
    phrase_beginnings: frozenset[str]
    substrings: dict[str, str]
    substring_beginnings: frozenset[str]

    @classmethod
    def of(cls, entries: Iterable[str]) -> Self:
        """Fold entries; of two that fold alike, the first counts.

        Raises:
            InvalidOptionError: One has no letter and no digit, so it would match nothing.
        """
        phrases: dict[str, str] = {}
        substrings: dict[str, str] = {}
        for entry in entries:
            folded = fold(entry).strip()
            if any(kind(c) == "unspaced" for c in folded):
                substrings.setdefault(folded, entry)
                continue
            runs = groupby(folded, key=lambda c: kind(c) == "word")
            words = ["".join(run) + END_OF_WORD for is_word, run in runs if is_word]
            if not words:
                raise InvalidOptionError(
                    f"a word to look for must have a letter or a digit; got {entry!r:.80}"
                )
            phrases.setdefault("".join(words), entry)
        if not phrases and not substrings:
            raise InvalidOptionError("expected at least one word to look for; got none")
        return cls(phrases, _beginnings(phrases), substrings, _beginnings(substrings))


def parse(text: str) -> list[str]:
    """Return the entries of a word list: one on each line; ``#`` begins a comment."""
    entries = (line.partition("#")[0].strip() for line in text.removeprefix("\ufeff").splitlines())
    return [entry for entry in entries if entry]


def _beginnings(texts: Iterable[str]) -> frozenset[str]:
    return frozenset(text[:end] for text in texts for end in range(1, len(text) + 1))
