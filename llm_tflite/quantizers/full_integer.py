"""Eight-bit weights between eight-bit activations, whose ranges are fixed when the file is written.

Values outside of a range are clipped and those within are rounded to 255 steps. What goes into a
product gets the range with the least squared error of both. What comes out keeps its whole range:
clipped logits and outliers of the residual stream cost more than coarser steps
(docs/measurements.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import ActivationScale, ActivationStatistics, Distribution
from llm_tflite.errors import QuantizationError
from llm_tflite.quantization import JSON, QuantizedTensor, Weight, row_chunks

_LARGEST = 127
# Rows this much smaller than the largest share its scale: the output has one scale for all rows, so
# nothing is lost, and biases in units of input times weight scale stay small integers.
_SMALLEST_ROW = np.float32(2.0**-12)
# The runtime refuses scales that are zero or subnormal.
_SMALLEST_SCALE = np.finfo(np.float32).tiny
_CANDIDATES = 96


@dataclass(frozen=True)
class FullInteger:
    """Multiplies int8 by int8 to int8, for accelerators that have nothing else.

    Attributes:
        least_agreement: The share of greedy tokens on the calibration texts that must be Keras' own
            for a file to be written.
        coarsest_step: How large a step of an input may be, as a share of the magnitude that nine
            values of ten stay within. Products with a coarser input, in Llamas those behind the
            gated activation, are quantized at run time as ``dynamic_range`` does, and noted. None
            for no limit.
        name: ``full_integer``, after TFLite's own terms.
        lossless: False.
        needs_calibration: True.
    """

    least_agreement: float = 0.9
    coarsest_step: float | None = 0.125
    name: str = "full_integer"
    lossless: bool = False
    needs_calibration: bool = True

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {
            "bits": 8,
            "granularity": "row",
            "activations": "static",
            "activation_bits": 8,
            "input_ranges": "least squared error",
            "output_ranges": "smallest and largest value",
            "coarsest_step": self.coarsest_step,
            "least_agreement": self.least_agreement,
        }

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` in int8 with the scales of what goes in and comes out."""
        integers, scales = int8_rows(values)
        if (seen := statistics_of(weight)) is None:
            return QuantizedTensor(integers, bits=8, scales=scales)
        source = least_error(seen.input)
        step = source.scale / seen.input.usual_magnitude
        if self.coarsest_step is not None and step > self.coarsest_step:
            note = (
                f"a step of its input is {step:.2g} of the usual magnitude: quantized at run time"
            )
            return QuantizedTensor(
                integers, bits=8, scales=scales, activations="dynamic", note=note
            )
        return QuantizedTensor(
            integers,
            bits=8,
            scales=scales,
            activations="static",
            input=source,
            output=ActivationScale.spanning(*seen.output.span),
        )


def statistics_of(weight: Weight) -> ActivationStatistics | None:
    """Return what calibration saw of a matrix; None for a table whose rows are looked up only.

    Raises:
        QuantizationError: It is multiplied, and calibration did not reach it.
    """
    if weight.statistics is None and (weight.role == "projection" or weight.tied):
        raise QuantizationError(
            f"expected the calibration texts to reach every matrix; {weight.name!r} was "
            "multiplied with nothing: use the quantizer 'dynamic_range' for this model"
        )
    return weight.statistics


def int8_rows(
    values: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Round each row to multiples of its scale, within [-127, 127]; returns the scales too."""
    largest = np.concatenate([np.abs(values[rows]).max(axis=1) for rows in row_chunks(values)])
    largest = np.maximum(largest, largest.max() * _SMALLEST_ROW)
    scale = np.maximum(largest / _LARGEST, _SMALLEST_SCALE)
    scales = np.where(largest > 0, scale, 1).astype(np.float32)
    integers = np.empty(values.shape, np.int8)
    for rows in row_chunks(values):
        rounded = np.rint(values[rows] / scales[rows, np.newaxis])
        integers[rows] = np.clip(rounded, -_LARGEST, _LARGEST, out=rounded)
    return integers, scales


def least_error(seen: Distribution) -> ActivationScale:
    """Return the range with the least squared error of clipping and rounding, on bins' edges."""
    edges = seen.edges
    centers = (edges[:-1] + edges[1:]) / 2
    used = np.flatnonzero(seen.counts)
    lowest, highest = seen.span
    lows = edges[_candidates(edges, min(lowest, 0.0))]
    highs = edges[_candidates(edges, max(highest, 0.0))]
    counts, centers = seen.counts[used].astype(np.float64), centers[used]
    below = np.array([counts @ np.square(np.minimum(centers - low, 0)) for low in lows])
    above = np.array([counts @ np.square(np.maximum(centers - high, 0)) for high in highs])
    # A value that is rounded to steps is off by a twelfth of a squared step, on average.
    rounding = np.square((highs[np.newaxis] - lows[:, np.newaxis]) / 255) / 12 * counts.sum()
    error = below[:, np.newaxis] + above[np.newaxis] + rounding
    low, high = np.unravel_index(int(error.argmin()), error.shape)
    return ActivationScale.spanning(float(lows[low]), float(highs[high]))


def _candidates(edges: npt.NDArray[np.float64], furthest: float) -> npt.NDArray[np.intp]:
    """Indices of edges between 0 and ``furthest``, both among them."""
    return np.unique(np.searchsorted(edges, furthest * np.linspace(1, 0, _CANDIDATES)))
