"""What comes back from a model: completions, the chunks of a stream, scores and their timings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

FinishReason = Literal["stop", "length", "context", "filtered", "error"]


@dataclass(frozen=True)
class TokenLogprob:
    """How probable the model found a token, before sampling options were applied.

    Attributes:
        token_id: The token.
        logprob: Natural logarithm of its probability.
        top: The most probable tokens at this place with theirs, best first.
    """

    token_id: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class Timings:
    """Where the time went, in seconds; what the consumer of a stream does is not counted.

    Attributes:
        load_s: Opening the artifact, once per interpreter, its verification included.
        prefill_s: Reading the prompt and producing the first token.
        decode_s: Producing the tokens after it.
        time_to_first_token_s: From the call (or the first step of a stream) to the first token;
            None if there is none.
        prefill_tokens: Tokens read during ``prefill_s``.
        decode_tokens: Tokens produced during ``decode_s``, a stop token included.
    """

    load_s: float
    prefill_s: float
    decode_s: float
    time_to_first_token_s: float | None
    prefill_tokens: int
    decode_tokens: int

    @property
    def prefill_tokens_per_s(self) -> float:
        """Speed of reading the prompt; 0 if nothing was read."""
        return self.prefill_tokens / self.prefill_s if self.prefill_s else 0.0

    @property
    def decode_tokens_per_s(self) -> float:
        """Speed of writing the answer; 0 if nothing was written."""
        return self.decode_tokens / self.decode_s if self.decode_s else 0.0


@dataclass(frozen=True)
class Completion:
    """One whole answer.

    Attributes:
        text: The new text, without a stop string; "" for an artifact without a tokenizer.
        token_ids: The new tokens, without a stop token but with those of a stop string, and without
            those of text that a filter refused.
        finish_reason: "stop": a stop token or stop string came. "length": ``max_new_tokens`` are
            there. "context": the cache is full. "filtered": a text filter refused what came next.
            "error": the model's scores were not finite; what came before is kept.
        prompt_tokens: Tokens the model was given, the start token included.
        trimmed_tokens: Tokens of the prompt that did not fit and were left out.
        timings: Where the time went.
        logprobs: One entry per new token, if they were asked for.
        error: What happened, if ``finish_reason`` is "error".
        trimmed_words: Words of the prompt that ``context_words`` left out.
        filtered_by: The text filter, if ``finish_reason`` is "filtered".
    """

    text: str
    token_ids: tuple[int, ...]
    finish_reason: FinishReason
    prompt_tokens: int
    trimmed_tokens: int
    timings: Timings
    logprobs: tuple[TokenLogprob, ...] | None = None
    error: str | None = None
    trimmed_words: int = 0
    filtered_by: str | None = None


@dataclass(frozen=True)
class Chunk:
    """One step of a stream: one new token, or the end.

    Attributes:
        text: Text that became certain in this step, often "" (half a character, or the possible
            beginning of a stop string, is held back). All texts joined are ``Completion.text``.
        token_ids: The new token; empty at the end. With text filters, the tokens whose text became
            certain: none, one or several.
        logprobs: As in ``Completion``, for these tokens.
        completion: In the last chunk only: the whole answer.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    completion: Completion | None = None

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why the stream ended; None until it does."""
        return None if self.completion is None else self.completion.finish_reason


@dataclass(frozen=True)
class Score:
    """How probable the model finds a text, token by token.

    Attributes:
        tokens: One entry per scored token. The first token has nothing before it and is not
            scored, unless the model begins every text with a start token.
    """

    tokens: tuple[TokenLogprob, ...]

    @property
    def total_logprob(self) -> float:
        """Natural logarithm of the probability of the whole text."""
        return math.fsum(token.logprob for token in self.tokens)

    @property
    def perplexity(self) -> float:
        """How many equally likely tokens the model chose from, on average."""
        return math.exp(-self.total_logprob / len(self.tokens))
