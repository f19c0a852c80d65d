"""What two spellings of a word have in common: letters without case, accents or hidden characters.

Each character is folded by itself, so a text folds the same in one piece and in many.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from typing import Literal

Kind = Literal["word", "unspaced", "other"]

# Marks that are vowels or voice a consonant, from Devanagari to Tibetan and Myanmar, in Khmer and
# in kana: without them, other words would be left.
_SPELLING_MARKS = ((0x0900, 0x109F), (0x1780, 0x17FF), (0x3099, 0x309A))

# Scripts that are written without spaces, so that a word is found inside a run of characters.
_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1100, 0x11FF),  # Hangul, as compatibility decomposition leaves it
    (0x1780, 0x17FF),  # Khmer
    (0x19E0, 0x19FF),
    (0x2E80, 0x2FDF),  # Han radicals
    (0x3005, 0x3007),
    (0x3021, 0x3029),
    (0x3038, 0x303B),
    (0x3041, 0x309F),  # Hiragana
    (0x30A1, 0x30FF),  # Katakana
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),  # Han
    (0x4E00, 0x9FFF),
    (0xA960, 0xA97F),  # old Hangul
    (0xA9E0, 0xA9FF),  # Myanmar
    (0xAA60, 0xAA7F),
    (0xAC00, 0xD7FF),
    (0xF900, 0xFAFF),
    (0x20000, 0x323AF),
)

_ALIKE = {"\u00df": "ss", "\u03c2": "\u03c3", "\u0131": "i"}  # sharp s, final sigma, dotless i


def fold(text: str) -> str:
    """Return a text as the filter compares it."""
    return "".join(map(fold_character, text))


@lru_cache(maxsize=4096)
def fold_character(character: str) -> str:
    """Return what is left of one character: often one, none of an accent, several of a ligature."""
    decomposed = unicodedata.normalize("NFKD", character).lower()
    kept = (c for c in unicodedata.normalize("NFKD", decomposed) if not _is_dropped(c))
    return "".join(_ALIKE.get(c, c) for c in kept)


@lru_cache(maxsize=4096)
def kind(folded: str) -> Kind:
    """Return what a folded character is part of.

    Returns:
        "word": of a word, which ends where the next character is of another kind. "unspaced": of
        text in a script without spaces. "other": of neither.
    """
    if unicodedata.category(folded)[0] not in "LNM":
        return "other"
    return "unspaced" if _within(folded, _UNSPACED) else "word"


@lru_cache(maxsize=4096)
def is_letter(folded: str) -> bool:
    """Whether it is a letter and not, say, a digit."""
    return unicodedata.category(folded)[0] == "L"


@lru_cache(maxsize=4096)
def continues_character(folded: str) -> bool:
    """Whether it belongs to the character before it: a mark, or the rest of a Hangul syllable."""
    return unicodedata.category(folded)[0] == "M" or "\u1160" <= folded <= "\u11ff"


def _is_dropped(character: str) -> bool:
    category = unicodedata.category(character)
    if category == "Cf":
        return True
    return category in ("Mn", "Me") and not _within(character, _SPELLING_MARKS)


def _within(character: str, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= ord(character) <= last for first, last in ranges)
