"""One answer as it comes into being: the loop from prompt to stop, one chunk per token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .completion import Chunk, Completion, FinishReason, Timings, TokenLogprob
from .decoding import DecodingState
from .sampling import Sampler, Sampling, log_probabilities, top_tokens
from .text import StopStrings, Utf8Assembler
from .text_filter import FilterChain, TextFilter
from .tokenizers import Tokenizer

Logits = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Request:
    """A call of ``generate`` or ``stream`` whose arguments were checked."""

    prompt: list[int]
    trimmed_tokens: int
    max_new_tokens: int | None
    sampling: Sampling
    stop: tuple[str, ...]
    stop_token_ids: frozenset[int]
    logprobs: int | None
    trimmed_words: int = 0
    filters: tuple[TextFilter, ...] = ()
    prompt_text: str = ""  # what the filters shall know of the prompt


class Writer(Protocol):
    """Where the tokens of an answer come from."""

    @property
    def full(self) -> bool:
        """Whether no further token can come."""

    def read(self, prompt: Sequence[int]) -> tuple[int, Logits | None]:
        """Begin anew and read a prompt; return the first token, and its logits, if known.

        Raises:
            FloatingPointError: They are not finite, so there is no choice.
        """

    def write(self, token: int) -> tuple[int, Logits | None]:
        """Read ``token`` and return the next one in the same way."""


class CacheWriter:
    """Chooses tokens from the logits of a model with a cache."""

    def __init__(self, state: DecodingState, request: Request) -> None:
        """Write with a state that nobody else uses."""
        self._state = state
        self._sampler = Sampler(request.sampling, request.prompt)

    @property
    def full(self) -> bool:
        """Whether the cache has no slot for a further token."""
        return self._state.full

    def read(self, prompt: Sequence[int]) -> tuple[int, Logits | None]:
        """Begin anew, read a prompt and choose the first token."""
        return self._pick(self._state.read(prompt))

    def write(self, token: int) -> tuple[int, Logits | None]:
        """Read ``token`` and choose the next one."""
        return self._pick(self._state.decode(token))

    def _pick(self, logits: Logits) -> tuple[int, Logits]:
        try:
            return self._sampler.pick(logits), logits
        except FloatingPointError:
            self._state.clear()
            raise


class Generation:
    """Produces the chunks of one request and keeps count."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None, load_s: float) -> None:
        """Count from zero; the model is not run yet."""
        self._request = request
        self._tokenizer = tokenizer
        self._load_s = load_s
        self._assembler = Utf8Assembler()
        self._stops = StopStrings(request.stop)
        self._filters = FilterChain(request.filters, request.prompt_text)
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._ends: list[int] = []  # where each token ends, in characters of the text
        self._whole = self._passed = 0  # characters that came, and that came out
        self._given = 0  # tokens that came out
        self._logprobs: list[TokenLogprob] = []
        self._error: str | None = None
        self._count = 0
        self._prefill_s = self._decode_s = 0.0

    def chunks(self, writer: Writer) -> Iterator[Chunk]:
        """Yield one chunk per new token, then one with the completion."""
        token: int | None = None
        reason = self._limit(writer)
        while reason is None:
            first = token is None
            began = perf_counter()
            token, chunk, reason = self._step(writer, token)
            elapsed_s = perf_counter() - began
            if first:
                self._prefill_s = elapsed_s
            else:
                self._decode_s += elapsed_s
            if chunk is not None:
                yield chunk
        yield self._end(reason)

    def _step(
        self, writer: Writer, token: int | None
    ) -> tuple[int | None, Chunk | None, FinishReason | None]:
        """Read ``token``, or the prompt where there is none.

        Returns:
            The next token, its chunk, and why it is the last, if it is.
        """
        try:
            if token is None:
                token, logits = writer.read(self._request.prompt)
            else:
                token, logits = writer.write(token)
        except FloatingPointError as e:
            self._error = str(e)
            return token, None, "error"
        self._count += 1
        if token in self._request.stop_token_ids:
            return token, None, "stop"
        chunk = self._accept(token, logits)
        if self._filters.refused_by is not None:
            return token, chunk, "filtered"
        return token, chunk, "stop" if self._stops.found else self._limit(writer)

    def _limit(self, writer: Writer) -> FinishReason | None:
        if len(self._tokens) == self._request.max_new_tokens:
            return "length"
        return "context" if writer.full else None

    def _accept(self, token: int, logits: Logits | None) -> Chunk:
        self._tokens.append(token)
        text = ""
        if self._tokenizer is not None:
            text = self._assembler.push(self._tokenizer.token_bytes(token))
            self._whole += len(text)
            text = self._filters.push(self._stops.push(text))
        self._ends.append(self._whole + self._assembler.pending)
        if self._request.logprobs is not None and logits is not None:
            self._logprobs.append(token_logprob(token, logits, top=self._request.logprobs))
        return self._chunk(text)

    def _chunk(self, text: str, *, last: bool = False) -> Chunk:
        """Give out a text, and the tokens that it completes."""
        self._texts.append(text)
        self._passed += len(text)
        first, count = self._given, len(self._tokens)
        if self._filters.refused_by is not None or (self._request.filters and not last):
            while self._given < count and self._ends[self._given] <= self._passed:
                self._given += 1
        else:
            self._given = count
        given = slice(first, self._given)
        logprobs = tuple(self._logprobs[given]) or None
        return Chunk(text, tuple(self._tokens[given]), logprobs)

    def _end(self, reason: FinishReason) -> Chunk:
        text = self._stops.push(self._assembler.finish()) + self._stops.finish()
        rest = self._chunk(self._filters.push(text) + self._filters.finish(), last=True)
        completion = Completion(
            text="".join(self._texts),
            token_ids=tuple(self._tokens[: self._given]),
            finish_reason=reason if self._filters.refused_by is None else "filtered",
            prompt_tokens=len(self._request.prompt),
            trimmed_tokens=self._request.trimmed_tokens,
            timings=Timings(
                load_s=self._load_s,
                prefill_s=self._prefill_s,
                decode_s=self._decode_s,
                time_to_first_token_s=self._prefill_s if self._count else None,
                prefill_tokens=len(self._request.prompt) if self._prefill_s else 0,
                decode_tokens=max(0, self._count - 1),
            ),
            logprobs=(
                None if self._request.logprobs is None else tuple(self._logprobs[: self._given])
            ),
            error=self._error,
            trimmed_words=self._request.trimmed_words,
            filtered_by=self._filters.refused_by,
        )
        return replace(rest, completion=completion)


def token_logprob(token: int, logits: Logits, *, top: int = 0) -> TokenLogprob:
    """Return how probable ``token`` is, and the ``top`` most probable tokens."""
    values = log_probabilities(logits)
    best = top_tokens(logits, top) if top else ()
    return TokenLogprob(
        token, float(values[token]), tuple((int(other), float(values[other])) for other in best)
    )
