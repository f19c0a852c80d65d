"""One answer as it comes into being: the loop from prompt to stop, one chunk per token."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .completion import Chunk, Completion, FinishReason, Timings, TokenLogprob
from .decoding import DecodingState
from .sampling import Sampler, Sampling, log_probabilities, top_tokens
from .text import StopStrings, Utf8Assembler
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


class Writer(Protocol):
    """Where the tokens of an answer come from."""

    @property
    def full(self) -> bool:
        """Whether no further token can come."""

    def read(self, prompt: Sequence[int]) -> None:
        """Begin anew and read a prompt but for its last token."""

    def write(self, token: int) -> tuple[int, Logits | None]:
        """Read ``token``; return the next one, and the logits it was chosen from, if known.

        Raises:
            FloatingPointError: They are not finite, so there is no choice.
        """


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

    def read(self, prompt: Sequence[int]) -> None:
        """Begin anew and read a prompt but for its last token."""
        self._state.prefill(prompt[:-1])

    def write(self, token: int) -> tuple[int, Logits | None]:
        """Read ``token`` and choose the next one."""
        logits = self._state.decode(token)
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
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._error: str | None = None
        self._decoded = 0
        self._prefill_s = self._decode_s = 0.0
        self._first_token_s: float | None = None

    def chunks(self, writer: Writer) -> Iterator[Chunk]:
        """Yield one chunk per new token, then one with the completion."""
        token = self._request.prompt[-1]
        reason = self._limit(writer)
        if reason is None:
            began = perf_counter()
            writer.read(self._request.prompt)
            self._prefill_s = perf_counter() - began
        while reason is None:
            began = perf_counter()
            token, chunk, reason = self._step(writer, token)
            self._decode_s += perf_counter() - began
            if self._decoded == 1:
                self._first_token_s = self._prefill_s + self._decode_s
            if chunk is not None:
                yield chunk
        yield self._end(reason)

    def _step(self, writer: Writer, token: int) -> tuple[int, Chunk | None, FinishReason | None]:
        """Read ``token``; return the next one, its chunk, and why it is the last, if it is."""
        try:
            token, logits = writer.write(token)
        except FloatingPointError as e:
            self._error = str(e)
            return token, None, "error"
        self._decoded += 1
        if token in self._request.stop_token_ids:
            return token, None, "stop"
        chunk = self._accept(token, logits)
        return token, chunk, "stop" if self._stops.found else self._limit(writer)

    def _limit(self, writer: Writer) -> FinishReason | None:
        if len(self._tokens) == self._request.max_new_tokens:
            return "length"
        return "context" if writer.full else None

    def _accept(self, token: int, logits: Logits | None) -> Chunk:
        self._tokens.append(token)
        text = ""
        if self._tokenizer is not None:
            data = self._tokenizer.token_bytes(token)
            text = self._stops.push(self._assembler.push(data))
            self._texts.append(text)
        if self._request.logprobs is None or logits is None:
            return Chunk(text, (token,))
        self._logprobs.append(token_logprob(token, logits, top=self._request.logprobs))
        return Chunk(text, (token,), (self._logprobs[-1],))

    def _end(self, reason: FinishReason) -> Chunk:
        text = self._stops.push(self._assembler.finish()) + self._stops.finish()
        completion = Completion(
            text="".join([*self._texts, text]),
            token_ids=tuple(self._tokens),
            finish_reason=reason,
            prompt_tokens=len(self._request.prompt),
            trimmed_tokens=self._request.trimmed_tokens,
            timings=Timings(
                load_s=self._load_s,
                prefill_s=self._prefill_s,
                decode_s=self._decode_s,
                time_to_first_token_s=self._first_token_s,
                prefill_tokens=len(self._request.prompt) - 1 if self._prefill_s else 0,
                decode_tokens=self._decoded,
            ),
            logprobs=None if self._request.logprobs is None else tuple(self._logprobs),
            error=self._error,
        )
        return Chunk(text, completion=completion)


def token_logprob(token: int, logits: Logits, *, top: int = 0) -> TokenLogprob:
    """Return how probable ``token`` is, and the ``top`` most probable tokens."""
    values = log_probabilities(logits)
    best = top_tokens(logits, top) if top else ()
    return TokenLogprob(
        token, float(values[token]), tuple((int(other), float(values[other])) for other in best)
    )
