"""Run a model over texts, and let a strategy see what went through it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ..activations import ActivationStatistics
from ..errors import InvalidOptionError
from ..progress import Progress, Report
from ..quantization import JSON, QuantizationStrategy, QuantizedTensor, Weight
from ..tokenizer_assets import TokenizerAsset
from ..tokenizers import load_tokenizer
from ..tracing.float_weights import float_weights
from ..tracing.observation import ProductObserver
from ..tracing.reference import keras_logits
from .agreement import choices_begin

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
    observer = ProductObserver(float_weights(model))
    for done, tokens in enumerate(texts):
        report(Progress("calibrating", done, len(texts)))
        with observer.observing():
            # As when choices are compared: to a prefix language model it makes a difference.
            keras_logits(model, tokens, prompt_tokens=choices_begin(tokens))
    report(Progress("calibrating", len(texts), len(texts)))
    return observer.statistics


@dataclass(frozen=True)
class Calibrated:
    """A strategy that is told of each matrix what calibration saw there."""

    strategy: QuantizationStrategy
    statistics: Mapping[str, ActivationStatistics]

    @property
    def name(self) -> str:
        """The strategy's."""
        return self.strategy.name

    @property
    def lossless(self) -> bool:
        """The strategy's."""
        return self.strategy.lossless

    def describe(self) -> Mapping[str, JSON]:
        """The strategy's."""
        return self.strategy.describe()

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Add the statistics to ``weight``."""
        seen = self.statistics.get(weight.name)
        return self.strategy.quantize(replace(weight, statistics=seen), values)
