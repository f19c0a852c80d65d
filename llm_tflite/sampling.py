"""How the next token is chosen from the model's scores: greedy, or drawn with a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import InvalidOptionError
from .options import check_integer, check_real

Logits = npt.NDArray[np.float32]
Ids = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How to choose tokens; the filters apply in the order of the fields.

    Args:
        repetition_penalty: Above 1, tokens that the prompt or the answer already holds become less
            likely: positive logits are divided by it, negative ones multiplied (Keskar et al.
            2019, https://arxiv.org/abs/1909.05858).
        temperature: Divides the logits; 0 takes the best token and ignores everything below.
        top_k: Keeps the ``top_k`` best tokens; None keeps all.
        top_p: Keeps the smallest set of best tokens whose probabilities reach ``top_p``.
        min_p: Keeps tokens at least ``min_p`` times as probable as the best one.
        seed: The same seed, prompt and file give the same tokens; None draws a fresh one.

    Raises:
        InvalidOptionError: A value that no choice of tokens could honour.
    """

    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None

    def __post_init__(self) -> None:
        """Refuse impossible values where they are written, not where they are used."""
        check_real("temperature", self.temperature, 0)
        check_real("min_p", self.min_p, 0, 1)
        for name in ("repetition_penalty", "top_p"):
            if check_real(name, getattr(self, name), 0, 1 if name == "top_p" else 1e6) == 0:
                raise InvalidOptionError(f"{name} must be above 0; got 0")
        if self.top_k is not None:
            check_integer("top_k", self.top_k, 1)
        if self.seed is not None:
            check_integer("seed", self.seed, 0, 2**64 - 1)

    @classmethod
    def greedy(cls) -> Sampling:
        """Always the best token (of equals, the lowest id): what ``generate`` does by default."""
        return cls(temperature=0.0)


class Sampler:
    """Chooses the tokens of one generation."""

    def __init__(self, sampling: Sampling, prompt: Sequence[int]) -> None:
        """Begin with the tokens that a repetition penalty already applies to."""
        self._sampling = sampling
        self._random = np.random.Generator(np.random.PCG64(sampling.seed))
        self._penalised = sampling.repetition_penalty != 1
        self._seen = set(prompt) if self._penalised else set()

    def pick(self, logits: Logits) -> int:
        """Return the next token.

        Raises:
            FloatingPointError: The best logit is NaN or infinite, so there is no choice.
        """
        if self._penalised:
            logits = self._penalise(logits)
        best = int(logits.argmax())
        # argmax stops at a NaN, so this one look covers the whole array.
        if not np.isfinite(logits[best]):
            raise FloatingPointError("the model's scores are not finite")
        token = best if self._sampling.temperature == 0 else self._draw(logits, logits[best])
        if self._penalised:
            self._seen.add(token)
        return token

    def _penalise(self, logits: Logits) -> Logits:
        penalty = np.float32(self._sampling.repetition_penalty)
        seen = np.fromiter(self._seen, np.intp, len(self._seen))
        scores = logits[seen]
        logits = logits.copy()
        logits[seen] = np.where(scores > 0, scores / penalty, scores * penalty)
        return logits

    def _draw(self, logits: Logits, best: np.float32) -> int:
        options = self._sampling
        tokens = None if options.top_k is None else top_tokens(logits, options.top_k)
        scores = logits if tokens is None else logits[tokens]
        # The bound keeps a tiny temperature from making NaN of the best score, zero times infinity.
        weights = np.exp((scores - best) * np.float32(min(1 / options.temperature, 1e30)))
        if options.top_p < 1:
            reached = np.cumsum(np.sort(weights)[::-1], dtype=np.float64)
            count = int(np.searchsorted(reached, options.top_p * reached[-1])) + 1
            weights[~_best(weights, count)] = 0
        weights[weights < options.min_p] = 0  # the best token's weight is 1
        shares = np.cumsum(weights, dtype=np.float64)
        shares /= shares[-1]  # exactly 1 at the end, and random() is below 1
        drawn = int(np.searchsorted(shares, self._random.random(), side="right"))
        return drawn if tokens is None else int(tokens[drawn])


def top_tokens(logits: Logits, count: int) -> Ids:
    """Return the ``count`` best tokens, best first; equals in the order of their ids."""
    tokens = np.flatnonzero(_best(logits, count))
    return tokens[np.argsort(-logits[tokens], kind="stable")]


def _best(values: Logits, count: int) -> npt.NDArray[np.bool_]:
    """Mark the ``count`` largest values; of equals, those that come first.

    Not argpartition: which of several equals it keeps depends on the processor.
    """
    if count >= values.size:
        return np.ones(values.size, np.bool_)
    threshold = np.partition(values, -count)[-count]
    chosen: npt.NDArray[np.bool_] = values > threshold
    equals = np.flatnonzero(values == threshold)
    chosen[equals[: count - np.count_nonzero(chosen)]] = True
    return chosen


def log_probabilities(logits: Logits) -> npt.NDArray[np.float64]:
    """Return the natural logarithms of the probabilities that the logits stand for."""
    shifted = logits.astype(np.float64) - logits.max()
    result: npt.NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum())
    return result
