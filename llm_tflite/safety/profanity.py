"""The built-in text filter: refuses words and phrases of a list."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.resources import files
from typing import Self

from ..errors import InvalidOptionError
from ..files import open_regular
from ..quantization import JSON
from ..text_filter import Refusal
from .scan import Match, Scan
from .word_list import WordList, parse


class ProfanityFilter:
    """Refuses the words of a list, however they are spelt.

    Case, accents, full width, hidden characters and digits in place of letters do not hide a word;
    docs/safety.md says what is compared and what is not found.

    Args:
        words: Words and phrases; by default the list that comes with the library.
        name: What refusals call the filter.

    Raises:
        InvalidOptionError: There are no words, or one has no letter and no digit.
    """

    def __init__(self, words: Iterable[str] | None = None, *, name: str = "profanity") -> None:
        """Fold the words."""
        if isinstance(words, str):
            raise InvalidOptionError(f"expected several words to look for; got {words!r:.80}")
        self.name = name
        self._words = _built_in() if words is None else WordList.of(words)

    def describe(self) -> Mapping[str, JSON]:
        """Return the number of entries."""
        return {"entries": len(self._words.phrases) + len(self._words.substrings)}

    def begin(self) -> StreamGate:
        """Return a gate for one text."""
        return StreamGate(self._words)

    def find(self, text: str) -> Match | None:
        """Return the first listed word of a text, or None."""
        scan = Scan(self._words)
        scan.push(text)
        scan.finish()
        return scan.match

    def with_parameter(self, path: str) -> Self:
        """Return the filter of the words in a file: UTF-8, one on each line, ``#`` for comments.

        Raises:
            ArtifactNotFoundError: There is no such file.
            InvalidOptionError: It is no text, or holds no words.
        """
        with open_regular(path) as stream:
            try:
                text = stream.read().decode("utf-8")
            except UnicodeDecodeError as e:
                raise InvalidOptionError(f"{path} must hold words in UTF-8; {e}") from e
        try:
            return type(self)(parse(text), name=self.name)
        except InvalidOptionError as e:
            raise InvalidOptionError(f"{path}: {e}") from e


class StreamGate:
    """Lets text through as far as it cannot be part of a listed word any more.

    On a match, everything before the word passes, and nothing after it.
    """

    def __init__(self, words: WordList) -> None:
        """Begin a text."""
        self._scan = Scan(words)
        self._held = ""
        self._passed = 0

    @property
    def refusal(self) -> Refusal | None:
        """Where the listed word is; None as long as there is none."""
        match = self._scan.match
        return None if match is None else Refusal(match.start, match.end, "listed word")

    def push(self, text: str) -> str:
        """Take the next piece of the text; return what is decided."""
        if self._scan.match is not None:
            return ""
        self._held += text
        self._scan.push(text)
        return self._decided()

    def finish(self) -> str:
        """Return the rest, unless it turns out to end in a listed word."""
        if self._scan.match is not None:
            return ""
        self._scan.finish()
        return self._decided()

    def _decided(self) -> str:
        count = self._scan.undecided - self._passed
        passed, self._held = self._held[:count], self._held[count:]
        self._passed += count
        return passed


@lru_cache(maxsize=1)
def _built_in() -> WordList:
    return WordList.of(parse(files(__package__).joinpath("words.txt").read_text("utf-8")))
