"""The end of a text that a model is given."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WordWindow:
    """The end of a text.

    Attributes:
        text: What is left.
        words_left_out: How many words were before it; 0 if the text is whole.
    """

    text: str
    words_left_out: int


def last_words(text: str, count: int) -> WordWindow:
    """Return the last ``count`` words of a text, all that stands between them, and what follows.

    A word is a run of characters that are not white space. A text with no more words than that is
    whole, what stands before its first word included.
    """
    starts = [
        index
        for index, character in enumerate(text)
        if not character.isspace() and (index == 0 or text[index - 1].isspace())
    ]
    left_out = len(starts) - count
    return WordWindow(text, 0) if left_out <= 0 else WordWindow(text[starts[left_out] :], left_out)
