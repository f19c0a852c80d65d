"""Run a model over texts, and let a strategy see what went through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..activations import ActivationStatistics, Moments
from ..errors import InvalidOptionError
from ..progress import Progress, Report
from ..quantization import (
    JSON,
    Matrices,
    QuantizationStrategy,
    QuantizedTensor,
    Weight,
    needs_calibration,
    plan,
    takes_calibration,
)
from ..tokenizer_assets import TokenizerAsset
from ..tokenizers import load_tokenizer
from ..tracing.float_weights import float_weights
from ..tracing.observation import Product, ProductObserver, moments_of, spread_of
from ..tracing.reference import keras_logits
from ..tracing.sensitivity import SensitivityObserver
from .agreement import choices_begin

_Seen = TypeVar("_Seen", ActivationStatistics, Moments)
Texts = Sequence[str] | Sequence[Sequence[int]]
# A token and what follows it, which is what the model is for.
_FEWEST_TOKENS = 2


def read_texts(
    texts: Texts, tokenizer: TokenizerAsset | None, vocabulary_size: int, length: int
) -> list[list[int]]:
    """Return calibration texts as token ids, each cut where the context ends.

    Args:
        texts: Texts, or sequences of token ids.
        tokenizer: The model's; None where texts must be token ids.
        vocabulary_size: How many token ids there are.
        length: Tokens that the context holds.

    Raises:
        InvalidOptionError: A text is of neither kind, or too short to say anything.
    """
    if isinstance(texts, str | bytes) or not isinstance(texts, Sequence) or not texts:
        raise InvalidOptionError(
            "calibration must be a list of some texts of the kind that the model will read, or of "
            f"lists of token ids; got {texts!r:.80}"
        )
    host = load_tokenizer(tokenizer.kind, tokenizer.data) if tokenizer else None
    start = [] if tokenizer is None or tokenizer.start is None else [tokenizer.start]
    read = []
    for number, text in enumerate(texts):
        if not isinstance(text, str):
            ids = _checked_ids(text, number, vocabulary_size)
        elif host is None:
            raise InvalidOptionError(
                f"calibration[{number}] is a text, but the model has no preprocessor: pass lists "
                "of token ids"
            )
        else:
            ids = start + host.encode(text)
        if len(ids) < _FEWEST_TOKENS:
            raise InvalidOptionError(
                f"calibration[{number}] must have at least {_FEWEST_TOKENS} tokens; got {len(ids)}"
            )
        read.append(ids[:length])
    return read


def _checked_ids(ids: Any, number: int, vocabulary_size: int) -> list[int]:
    array = np.asarray(ids) if isinstance(ids, Sequence | np.ndarray) else np.empty(0)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise InvalidOptionError(
            f"calibration[{number}] must be a text or a list of token ids; got {ids!r:.80}"
        )
    if array.min() < 0 or array.max() >= vocabulary_size:
        raise InvalidOptionError(
            f"calibration[{number}] must hold token ids from 0 to {vocabulary_size - 1}; they go "
            f"from {array.min()} to {array.max()}"
        )
    return [int(token) for token in array]


def collect_statistics(
    model: Any, texts: Sequence[Sequence[int]], report: Report
) -> dict[str, ActivationStatistics]:
    """Let the Keras model read each text; returns what its products saw, by variable path."""
    return _observe(model, texts, report, spread_of)


def collect_moments(
    model: Any, texts: Sequence[Sequence[int]], report: Report
) -> dict[str, Moments]:
    """Let the Keras model read each text; returns the moments of its products' inputs."""
    return _observe(model, texts, report, moments_of)


def collect_sensitivity(
    model: Any, texts: Sequence[Sequence[int]], report: Report
) -> dict[str, Moments]:
    """The same with the loss' gradients, in about twice the time."""
    observer = SensitivityObserver(model, float_weights(model))
    for tokens in _reported(texts, report):
        observer.read(tokens, prompt_tokens=choices_begin(tokens))
    return observer.seen


def _observe(
    model: Any,
    texts: Sequence[Sequence[int]],
    report: Report,
    look: Callable[[Product], _Seen | None],
) -> dict[str, _Seen]:
    observer = ProductObserver(float_weights(model), look)
    for tokens in _reported(texts, report):
        with observer.observing():
            # As when choices are compared: to a prefix language model it makes a difference.
            keras_logits(model, tokens, prompt_tokens=choices_begin(tokens))
    return observer.seen


def _reported(texts: Sequence[Sequence[int]], report: Report) -> Iterator[Sequence[int]]:
    for done, tokens in enumerate(texts):
        report(Progress("calibrating", done, len(texts)))
        yield tokens
    report(Progress("calibrating", len(texts), len(texts)))


@dataclass(frozen=True)
class Calibrated:
    """A strategy that is told of each matrix what calibration saw there.

    Attributes:
        strategy: Built-in or anybody's.
        statistics: By variable path; empty for strategies that do not ask for them.
        moments: The same.
        texts: How many were read.
    """

    strategy: QuantizationStrategy
    statistics: Mapping[str, ActivationStatistics]
    moments: Mapping[str, Moments]
    texts: int

    @classmethod
    def by_texts(
        cls,
        strategy: QuantizationStrategy,
        model: Any,
        texts: Sequence[Sequence[int]],
        report: Report,
    ) -> Calibrated:
        """Let the Keras model read each text, and see what the strategy asks for."""
        statistics, moments = {}, {}
        if needs_calibration(strategy):
            statistics = collect_statistics(model, texts, report)
        if takes_calibration(strategy):
            plans = getattr(strategy, "plan", None) is not None
            collect = collect_sensitivity if plans else collect_moments
            moments = collect(model, texts, report)
        return cls(strategy, statistics, moments, len(texts))

    @property
    def name(self) -> str:
        """The strategy's."""
        return self.strategy.name

    @property
    def lossless(self) -> bool:
        """The strategy's."""
        return self.strategy.lossless

    def describe(self) -> Mapping[str, JSON]:
        """The strategy's, and how many texts it was calibrated on."""
        return {**self.strategy.describe(), "calibration": {"texts": self.texts}}

    def plan(self, matrices: Matrices) -> QuantizationStrategy:
        """The strategy's, which sees what calibration saw."""
        known = ((self._with_calibration(weight), values) for weight, values in matrices)
        return replace(self, strategy=plan(self.strategy, known))

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Add what was seen to ``weight``."""
        return self.strategy.quantize(self._with_calibration(weight), values)

    def _with_calibration(self, weight: Weight) -> Weight:
        return replace(
            weight,
            statistics=self.statistics.get(weight.name),
            moments=self.moments.get(weight.name),
        )
