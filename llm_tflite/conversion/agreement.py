"""How far two sets of logits agree, and when that is too little."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DisagreementError
from ..tracing.reference import keras_logits

# Largest difference of logits, as a share of their range, that arithmetic in another order
# explains.
FLOAT_TOLERANCE = 1e-3
# The same where keys and values are rounded and weights are not. Eleven families of random weights,
# whose logits are loud and close together, differ by 0.013 to 0.088 with int8, in float16 by a
# tenth of that.
CACHE_TOLERANCES = {"float32": FLOAT_TOLERANCE, "float16": 3e-2, "int8": 2.5e-1}
# Logits of a different or damaged model correlate with the right ones by about 0; four bits on the
# smallest models by 0.5 to 0.9. Anything better is a matter of quality, and stated, not judged.
_LEAST_CORRELATION = 0.3
# Two graphs with the same weights differ by rounding alone, also where activations are quantized,
# as that is done token by token.
_LEAST_CACHE_CORRELATION = 0.9

# Of each calibration text; more would take longer than they would tell.
MOST_CHOICES = 48

Logits = npt.NDArray[np.float32]


def compare_logits(
    name: str,
    expected: Logits,
    found: Logits,
    lossless: bool,
    tolerance: float = FLOAT_TOLERANCE,
) -> dict[str, Any]:
    """Return the figures of an agreement.

    Args:
        name: What ``expected`` comes from, for the error.
        expected: float32 ``[rows, V]``.
        found: The converted model's, of the same shape.
        lossless: Whether only rounding may differ.
        tolerance: By which share of the logits' range, then.

    Raises:
        DisagreementError: Showing what both sides say.
    """
    difference = float(np.abs(expected - found).max())
    spread = float(np.ptp(expected))
    correlation = _correlation(expected, found)
    same = expected.argmax(-1) == found.argmax(-1)
    close = difference <= tolerance * spread
    # NaN on either side agrees with nothing.
    if not (close if lossless else correlation >= _LEAST_CORRELATION):
        plain = "quantizer='none'"
        if tolerance > FLOAT_TOLERANCE:
            plain += " and cache_dtype='float32'"
        raise DisagreementError(
            f"the converted model disagrees with {name}: expected greedy tokens "
            f"{expected.argmax(-1).tolist()}, found {found.argmax(-1).tolist()}; the logits "
            f"differ by up to {difference:.3g} in a range of {spread:.3g} and correlate by "
            f"{correlation:.4f}. No file was written; convert with {plain} to see whether "
            "quantization is the cause"
        )
    return {
        "tokens": len(same),
        "equal_tokens": int(same.sum()),
        "max_logit_difference": difference,
        "logit_range": spread,
        "correlation": correlation,
    }


def compare_caches(
    names: tuple[str, str],
    expected: Mapping[str, Logits],
    found: Mapping[str, Logits],
    lossless: bool,
    tolerance: float = FLOAT_TOLERANCE,
) -> dict[str, Any]:
    """Return the figures of the agreement of two graphs on what they left in their caches.

    Args:
        names: The two graphs, for the error.
        expected: Filled slots by the cache's name, from the first graph.
        found: The same from the second.
        lossless: Whether the weights are stored as they are.
        tolerance: By which share of a cache's range rounding may differ, then.

    Raises:
        DisagreementError: Showing in which cache they differ most.
    """
    shares: dict[str, float] = {}
    correlation = 1.0
    for name, values in found.items():
        shares[name] = _share_of_range(expected[name], values)
        if shares[name]:
            both = np.corrcoef(expected[name].ravel(), values.ravel())
            correlation = min(correlation, float(both[0, 1]))
    worst = max(shares, key=shares.__getitem__)
    if lossless:
        agrees = shares[worst] <= tolerance
    else:
        agrees = shares[worst] < np.inf and correlation >= _LEAST_CACHE_CORRELATION
    if not agrees:
        raise DisagreementError(
            f"{names[1]} disagrees with {names[0]}, which reads the same prompt in smaller pieces: "
            f"{worst} was expected to be the same and differs by {shares[worst]:.3g} of its range; "
            f"the lowest correlation of a cache is {correlation:.4f}. No file was written; leave "
            "that length out of prefill_lengths"
        )
    return {"largest_share_of_range": shares[worst], "correlation": correlation}


def _share_of_range(expected: Logits, found: Logits) -> float:
    """The largest difference; infinite where one side is not finite."""
    difference, spread = float(np.abs(expected - found).max()), float(np.ptp(expected))
    if difference == 0:
        return 0.0
    return difference / spread if difference < np.inf and spread > 0 else np.inf


def _correlation(expected: Logits, found: Logits) -> float:
    """Correlation of what the logits owe to their position, which a damaged model gets wrong.

    What all positions share, how common each word is, would hide any damage.
    """
    if len(expected) > 1:
        expected = expected - expected.mean(axis=0)
        found = found - found.mean(axis=0)
    return float(np.corrcoef(expected.ravel(), found.ravel())[0, 1])


@dataclass(frozen=True)
class Choices:
    """Greedy tokens of a converted model.

    Attributes:
        read: The text, as token ids.
        chosen: What the model chose after each of the last tokens of ``read``.
    """

    read: Sequence[int]
    chosen: Sequence[int]


def choices_begin(text: Sequence[int]) -> int:
    """How much of a text is read before choices count: half, or all but the last few."""
    return max(len(text) // 2, len(text) - MOST_CHOICES)


def check_choices(model: Any, texts: Iterable[Choices], least: float) -> dict[str, Any]:
    """Return which share of greedy tokens the Keras model chooses too, given the same text.

    Args:
        model: The Keras model.
        texts: What the converted model chose, for each text.
        least: The share that is enough.

    Raises:
        DisagreementError: It is less.
    """
    count = tokens = equal = 0
    for text in texts:
        begin = len(text.read) - len(text.chosen) + 1
        logits = keras_logits(model, text.read, prompt_tokens=begin)
        expected = logits[-len(text.chosen) :].argmax(-1)
        count += 1
        tokens += len(text.chosen)
        equal += int((expected == np.asarray(text.chosen)).sum())
    if equal < least * tokens:
        raise DisagreementError(
            f"the converted model chooses too few of the tokens that Keras does on the calibration "
            f"texts: expected a share of {least:g} or more, found {equal / tokens:.3f} ({equal} of "
            f"{tokens}). No file was written; use the quantizer 'dynamic_range', or calibrate on "
            "more text of the kind that the model will read"
        )
    return {
        "texts": count,
        "tokens": tokens,
        "equal_tokens": equal,
        "share": equal / tokens,
        "least": least,
    }
