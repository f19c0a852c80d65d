"""From what a caller passes as a prompt to the token ids that the model reads."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import numpy.typing as npt

from .context_window import last_words
from .errors import ContextOverflowError, InvalidOptionError, PromptError
from .manifest import Manifest
from .options import check_integer
from .tokenizers import Tokenizer

Ids = Sequence[int] | npt.NDArray[np.integer[Any]]
Prompt = str | Ids


class PromptReader:
    """Turns prompts into token ids for one artifact, exactly or not at all."""

    def __init__(self, manifest: Manifest, tokenizer: Tokenizer | None) -> None:
        """Read for the model that ``manifest`` describes."""
        self._vocabulary_size = manifest.model.vocabulary_size
        self._start = manifest.tokens.start
        self._tokenizer = tokenizer

    @property
    def tokenizer(self) -> Tokenizer:
        """The artifact's tokenizer.

        Raises:
            PromptError: It has none.
        """
        if self._tokenizer is None:
            raise PromptError(
                "this artifact has no tokenizer: it takes and gives token ids only; "
                "convert the model with its preprocessor to use text"
            )
        return self._tokenizer

    def read(self, prompt: Prompt, *, allow_special_tokens: bool) -> list[int]:
        """Return the tokens of a prompt; text begins with the model's start token, if it has one.

        Raises:
            PromptError: It is no text or sequence of token ids, or it is empty.
        """
        if isinstance(prompt, str):
            text = str(prompt)  # np.str_ is a str that the tokenizers do not take
            encoded = self.tokenizer.encode(text, allow_special_tokens=allow_special_tokens)
            ids = self.check_ids(encoded)
            if self._start is not None:
                ids.insert(0, self._start)
        else:
            ids = self.check_ids(prompt)
        if not ids:
            raise PromptError("the prompt is empty; expected at least one token")
        return ids

    def check_ids(self, ids: Ids) -> list[int]:
        """Return ``ids`` as a list, if each is a token of the vocabulary."""
        if isinstance(ids, np.ndarray):
            if ids.ndim != 1 or ids.dtype.kind not in "iu":
                raise PromptError(
                    f"expected one row of integer token ids; got an array of {ids.dtype} with "
                    f"shape {ids.shape}"
                )
            ids = ids.tolist()
        if not isinstance(ids, Sequence) or isinstance(ids, bytes | bytearray | memoryview | str):
            raise PromptError(f"expected text or a sequence of token ids; got {type(ids).__name__}")
        for index, token in enumerate(ids):
            if not isinstance(token, Integral) or isinstance(token, bool):
                raise PromptError(f"expected token ids; item {index} is a {type(token).__name__}")
            if not 0 <= token < self._vocabulary_size:
                raise PromptError(
                    f"token id {token} (item {index}) is outside the vocabulary of "
                    f"{self._vocabulary_size} tokens"
                )
        return [int(token) for token in ids]

    def fit(self, ids: list[int], window: int, *, trim: bool) -> tuple[list[int], int]:
        """Return the tokens that fit into ``window`` and the number of those left out.

        Raises:
            ContextOverflowError: They do not fit and ``trim`` is not set.
        """
        excess = len(ids) - window
        if excess <= 0:
            return ids, 0
        if not trim:
            raise ContextOverflowError(
                f"the prompt has {len(ids)} tokens and the context window holds {window}; raise "
                f"context_window (at most the context length of the model), shorten the prompt, "
                f"or pass trim_prompt=True to keep its end"
            )
        return keep_last(ids, window, start=self._start), excess


def last_words_of(prompt: Prompt, count: int | None) -> tuple[Prompt, int]:
    """Return the last words of a text, or all for None, and the number of those left out.

    Raises:
        InvalidOptionError: ``count`` is no positive number, or the prompt no text.
    """
    if count is None:
        return prompt, 0
    check_integer("context_words", count, 1)
    if not isinstance(prompt, str):
        raise InvalidOptionError("context_words is about text; this prompt is token ids")
    window = last_words(prompt, count)
    return window.text, window.words_left_out


def keep_last(ids: list[int], window: int, *, start: int | None) -> list[int]:
    """Return the last tokens; a start token at the beginning stays, where another has room too."""
    excess = len(ids) - window
    if excess <= 0:
        return ids
    if ids[0] == start and window > 1:
        return [start, *ids[excess + 1 :]]
    return ids[excess:]
