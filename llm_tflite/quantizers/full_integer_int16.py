"""Eight-bit weights between sixteen-bit activations, TFLite's "16x8", with ranges that are fixed.

With 65,536 steps, rounding costs next to nothing, so what would be clipped decides the range: all
that calibration saw, and more for what it did not see (docs/measurements.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import ActivationScale, Distribution
from llm_tflite.errors import InvalidOptionError
from llm_tflite.quantization import JSON, QuantizedTensor, Weight

from .full_integer import int8_rows, statistics_of


@dataclass(frozen=True)
class FullIntegerInt16:
    """Multiplies int16 by int8 to int16, for accelerators that have that and lose too much in int8.

    Attributes:
        least_agreement: As for ``full_integer``.
        headroom: How many times the largest magnitude that calibration saw the range reaches.
        name: ``full_integer_int16``.
        lossless: False.
        needs_calibration: True.
    """

    least_agreement: float = 0.9
    headroom: float = 2.0
    name: str = "full_integer_int16"
    lossless: bool = False
    needs_calibration: bool = True

    def __post_init__(self) -> None:
        """Refuse a headroom that leaves no range."""
        if not 0 < self.headroom < math.inf:
            raise InvalidOptionError(
                "headroom must be a positive number, such as 2 for twice the largest magnitude; "
                f"got {self.headroom!r:.80}"
            )

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {
            "bits": 8,
            "granularity": "row",
            "activations": "static",
            "activation_bits": 16,
            "ranges": "largest magnitude",
            "headroom": self.headroom,
            "least_agreement": self.least_agreement,
        }

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` in int8 with the scales of what goes in and comes out, in int16."""
        integers, scales = int8_rows(values)
        if (seen := statistics_of(weight)) is None:
            return QuantizedTensor(integers, bits=8, scales=scales)
        return QuantizedTensor(
            integers,
            bits=8,
            scales=scales,
            activations="static",
            input=self._scale(seen.input),
            output=self._scale(seen.output),
        )

    def _scale(self, seen: Distribution) -> ActivationScale:
        low, high = seen.span
        return ActivationScale.symmetric(self.headroom * max(-low, high))
