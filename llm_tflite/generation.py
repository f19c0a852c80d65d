"""One answer as it comes into being: the loop from prompt to stop, one chunk per token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from time import perf_counter

import numpy as np
import numpy.typing as npt

from .completion import Chunk, Completion, FinishReason, Timings, TokenLogprob
from .decoding import DecodingState
from .sampling import Sampler, Sampling, log_probabilities, top_tokens
from .text import StopStrings, Utf8Assembler
from .tokenizers import Tokenizer


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


class Generation:
    """Produces the chunks of one request and keeps count."""

    def __init__(self, request: Request, tokenizer: Tokenizer | None, load_s: float) -> None:
        """Count from zero; the model is not run yet."""
        self._request = request
        self._tokenizer = tokenizer
        self._load_s = load_s
        self._sampler = Sampler(request.sampling, request.prompt)
        self._assembler = Utf8Assembler()
        self._stops = StopStrings(request.stop)
        self._texts: list[str] = []
        self._tokens: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._error: str | None = None
        self._decoded = 0
        self._prefill_s = self._decode_s = 0.0
        self._first_token_s: float | None = None

    def chunks(self, state: DecodingState) -> Iterator[Chunk]:
        """Yield one chunk per new token, then one with the completion."""
        token = self._request.prompt[-1]
        reason = self._limit(state)
        if reason is None:
            began = perf_counter()
            state.prefill(self._request.prompt[:-1])
            self._prefill_s = perf_counter() - began
        while reason is None:
            began = perf_counter()
            token, chunk, reason = self._step(state, token)
            self._decode_s += perf_counter() - began
            if self._decoded == 1:
                self._first_token_s = self._prefill_s + self._decode_s
            if chunk is not None:
                yield chunk
        yield self._end(reason)

    def _step(
        self, state: DecodingState, token: int
    ) -> tuple[int, Chunk | None, FinishReason | None]:
        """Read ``token``; return the next one, its chunk, and why it is the last, if it is."""
        logits = state.decode(token)
        try:
            token = self._sampler.pick(logits)
        except FloatingPointError as e:
            self._error = str(e)
            state.clear()
            return token, None, "error"
        self._decoded += 1
        if token in self._request.stop_token_ids:
            return token, None, "stop"
        chunk = self._accept(token, logits)
        return token, chunk, "stop" if self._stops.found else self._limit(state)

    def _limit(self, state: DecodingState) -> FinishReason | None:
        if len(self._tokens) == self._request.max_new_tokens:
            return "length"
        return "context" if state.full else None

    def _accept(self, token: int, logits: npt.NDArray[np.float32]) -> Chunk:
        self._tokens.append(token)
        text = ""
        if self._tokenizer is not None:
            data = self._tokenizer.token_bytes(token)
            text = self._stops.push(self._assembler.push(data))
            self._texts.append(text)
        if self._request.logprobs is None:
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


def token_logprob(token: int, logits: npt.NDArray[np.float32], *, top: int = 0) -> TokenLogprob:
    """Return how probable ``token`` is, and the ``top`` most probable tokens."""
    values = log_probabilities(logits)
    best = top_tokens(logits, top) if top else ()
    return TokenLogprob(
        token, float(values[token]), tuple((int(other), float(values[other])) for other in best)
    )
