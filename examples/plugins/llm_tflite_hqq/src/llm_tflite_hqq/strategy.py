"""Half-quadratic quantization (Badri and Shaji, 2023) to 4-bit blocks.

https://mobiusml.github.io/hqq_blog/

The scale of a block minimises the sum of ``|error| ** 0.7``, which lets a few outliers be wrong by
much so that the many others are wrong by less. The original moves zero points; TFLite's blocks
have none, so here it is the scale that moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from llm_tflite import QuantizedTensor, Weight

Floats = npt.NDArray[np.float32]

_LOW, _HIGH = -8, 7
_BLOCK_SIZE = 32  # The smallest that TFLite's CPU kernels take.
_CHUNK_ROWS = 256  # So that temporaries stay small beside the model.
# What float16 holds with bfloat16's precision: files store the one, XNNPACK multiplies the other.
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-14, 65280.0


@dataclass(frozen=True)
class HalfQuadratic:
    """Projections in 4-bit blocks of 32; embeddings, and what blocks cannot hold, in int8 rows.

    Attributes:
        power: Of the error that is minimised; 2 would be least squares, less minds outliers less.
        penalty: How soon an error counts as an outlier's: what ``beta`` is in the original, for
            errors in steps of the scale. Of 2, 5, 10 and 30, 5 loses least of heavy-tailed values.
        rounds: How often scales and outliers are improved in turn.
    """

    power: float = 0.7
    penalty: float = 5.0
    rounds: int = 20
    name: str = "hqq4"
    lossless: bool = False

    def describe(self) -> dict[str, Any]:
        """Return the settings, for the manifest."""
        return {
            "bits": 4,
            "block_size": _BLOCK_SIZE,
            "power": self.power,
            "penalty": self.penalty,
            "rounds": self.rounds,
        }

    def quantize(self, weight: Weight, values: Floats) -> QuantizedTensor:
        """Return ``values``, float32 ``[out, in]``, in 4-bit blocks or in int8 rows."""
        if weight.role == "embedding":
            return _int8_rows(values)
        obstacle = _obstacle(values)
        if obstacle:
            return replace(_int8_rows(values), note=f"{obstacle}: kept at 8 bits")
        rows, columns = values.shape
        integers = np.empty((rows, columns), np.int8)
        scales = np.empty((rows, columns // _BLOCK_SIZE), np.float32)
        for start in range(0, rows, _CHUNK_ROWS):
            chunk = slice(start, start + _CHUNK_ROWS)
            # One block per column, so that numpy works on long rows.
            blocks = np.ascontiguousarray(values[chunk].reshape(-1, _BLOCK_SIZE).T)
            best = self._scales(blocks)
            scales[chunk] = best.reshape(-1, scales.shape[1])
            integers[chunk] = _rounded(blocks, best).T.reshape(-1, columns)
        return QuantizedTensor(
            integers, bits=4, scales=scales, block_size=_BLOCK_SIZE, activations="dynamic"
        )

    def _scales(self, blocks: Floats) -> Floats:
        """Return the best scale found for each column."""
        scales = _storable(np.maximum(blocks.max(axis=0) / _HIGH, blocks.min(axis=0) / _LOW))
        best, least = scales, self._loss(blocks, scales)
        for _ in range(self.rounds):
            integers = _rounded(blocks, scales)
            inliers = blocks - scales * self._outliers(blocks / scales - integers)
            # With integers and outliers fixed, least squares gives the scale in closed form.
            fitted = (integers * inliers).sum(axis=0) / np.maximum((integers**2).sum(axis=0), 1)
            scales = _storable(fitted)
            loss = self._loss(blocks, scales)
            best = np.where(loss < least, scales, best)
            least = np.minimum(loss, least)
        return best

    def _outliers(self, errors: Floats) -> Floats:
        """Return the part of each error that costs less as an outlier than in the fit."""
        size = np.abs(errors)
        spared = np.maximum(size, 1e-6) ** (self.power - 1) / self.penalty
        return np.sign(errors) * np.maximum(size - spared, 0)

    def _loss(self, blocks: Floats, scales: Floats) -> Floats:
        errors = np.abs(_rounded(blocks, scales) * scales - blocks)
        loss: Floats = (errors**self.power).sum(axis=0)
        return loss


def _rounded(blocks: Floats, scales: Floats) -> Floats:
    rounded: Floats = np.clip(np.rint(blocks / scales), _LOW, _HIGH)
    return rounded


def _obstacle(values: Floats) -> str:
    """Say why ``values`` do not fit 4-bit blocks, if they do not."""
    columns, largest = values.shape[1], float(np.abs(values).max())
    if columns % _BLOCK_SIZE:
        return f"in-dimension {columns} is not a multiple of {_BLOCK_SIZE}"
    if largest > _HIGH * _LARGEST_SCALE:
        return f"a value of magnitude {largest:.6g} exceeds float16 scales"
    return ""


def _storable(scales: Floats) -> Floats:
    """Return the nearest numbers that float16 and bfloat16 both hold."""
    mantissa, exponent = np.frexp(np.clip(scales, _SMALLEST_SCALE, _LARGEST_SCALE))
    storable: Floats = np.ldexp(np.rint(mantissa * 256) / 256, exponent)
    return storable


def _int8_rows(values: Floats) -> QuantizedTensor:
    largest = np.abs(values).max(axis=1)
    # The runtime refuses scales below float32's normal range.
    scales = np.where(largest > 0, np.maximum(largest / 127, np.finfo(np.float32).tiny), 1)
    integers = np.rint(values / scales[:, np.newaxis]).astype(np.int8)
    return QuantizedTensor(
        integers, bits=8, scales=scales.astype(np.float32), activations="dynamic"
    )
