"""How far two sets of logits agree, and when that is too little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import DisagreementError

# Largest difference of logits, as a share of their range, that arithmetic in another order
# explains.
FLOAT_TOLERANCE = 1e-3
# Logits of a different or damaged model correlate with the right ones by about 0; four bits on the
# smallest models by 0.5 to 0.9. Anything better is a matter of quality, and stated, not judged.
_LEAST_CORRELATION = 0.3

Logits = npt.NDArray[np.float32]


def compare(name: str, expected: Logits, found: Logits, lossless: bool) -> dict[str, Any]:
    """Return the figures of an agreement.

    Args:
        name: What ``expected`` comes from, for the error.
        expected: float32 ``[rows, V]``.
        found: The converted model's, of the same shape.
        lossless: Whether only rounding may differ.

    Raises:
        DisagreementError: Showing what both sides say.
    """
    difference = float(np.abs(expected - found).max())
    spread = float(np.ptp(expected))
    correlation = _correlation(expected, found)
    same = expected.argmax(-1) == found.argmax(-1)
    if lossless:
        agrees = difference <= FLOAT_TOLERANCE * spread
    else:
        agrees = correlation >= _LEAST_CORRELATION
    if not agrees:  # NaN on either side agrees with nothing.
        raise DisagreementError(
            f"the converted model disagrees with {name}: expected greedy tokens "
            f"{expected.argmax(-1).tolist()}, found {found.argmax(-1).tolist()}; the logits "
            f"differ by up to {difference:.3g} in a range of {spread:.3g} and correlate by "
            f"{correlation:.4f}. No file was written; convert with quantizer='none' to see "
            "whether quantization is the cause"
        )
    return {
        "tokens": len(same),
        "equal_tokens": int(same.sum()),
        "max_logit_difference": difference,
        "logit_range": spread,
        "correlation": correlation,
    }


def _correlation(expected: Logits, found: Logits) -> float:
    """Correlation of what the logits owe to their position, which a damaged model gets wrong.

    What all positions share, how common each word is, would hide any damage.
    """
    if len(expected) > 1:
        expected = expected - expected.mean(axis=0)
        found = found - found.mean(axis=0)
    return float(np.corrcoef(expected.ravel(), found.ravel())[0, 1])


def keras_logits(model: Any, tokens: Sequence[int]) -> Logits:
    """The model's own full forward pass over one text: float32 ``[len(tokens), V]``."""
    ids = np.array([tokens], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    logits: Logits = np.asarray(model(inputs, training=False), np.float32)[0]
    return logits
