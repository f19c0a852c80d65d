"""Four-bit weights in small blocks, each with the scale that loses least.

TFLite's ``BlockwiseQuantization`` (schema.fbs) stores values in [-8, 7] and float16 scales, but
XNNPACK multiplies with those scales as bfloat16. Measured with ai-edge-litert 2.3: a stored scale
of 1.00390625 acts as 1.0. So scales are numbers that both formats hold, and the integers are
chosen for the scale that will really be used.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight, row_chunks

from .int8 import Int8

Floats: TypeAlias = npt.NDArray[np.float32]

_INT8 = Int8("dynamic_range", activations="dynamic")
_LOW, _HIGH = -8, 7
_BLOCK_SIZE = 32  # The smallest that XNNPACK takes; larger ones lose more.
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-24, 65280.0  # Of float16 with bfloat16's precision.

# Shrinking the scale clips the largest value of a block and rounds the other 31 more finely.
# Relative RMS error, Gaussian weights and those of SmolLM2-135M: absmax / 7 gives 0.0970 and
# 0.1018, these ratios and one refit 0.0861 and 0.0845; 64 ratios would gain 0.0002 more.
_RATIOS = tuple(np.linspace(0.75, 1.1, 8, dtype=np.float32))


@dataclass(frozen=True)
class Int4:
    """Stores projections in 4 bits (4.5 with the scales), and embeddings in int8 rows.

    Embedding rows are read one at a time, so halving them would save no time, and a tied head
    decides every token.
    """

    name: str = "int4"
    lossless: bool = False

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        projection: dict[str, JSON] = {
            "bits": 4,
            "block_size": _BLOCK_SIZE,
            "activations": "dynamic",
        }
        return {"projection": projection, "embedding": _INT8.describe()}

    def quantize(self, weight: Weight, values: Floats) -> QuantizedTensor:
        """Return a projection in 4-bit blocks along ``in``, or in int8 where those cannot be."""
        if weight.role == "embedding":
            return _INT8.quantize(weight, values)
        obstacle = _obstacle(values)
        if obstacle:
            return replace(_INT8.quantize(weight, values), note=f"{obstacle}: kept at 8 bits")
        rows, columns = values.shape
        integers = np.empty((rows, columns), np.int8)
        scales = np.empty((rows, columns // _BLOCK_SIZE), np.float32)
        for chunk in row_chunks(values):
            # One block per column, so that numpy works on long rows: 3 times as fast.
            blocks = np.ascontiguousarray(values[chunk].reshape(-1, _BLOCK_SIZE).T)
            best = _best_scales(blocks)
            scales[chunk] = best.reshape(-1, scales.shape[1])
            integers[chunk] = _round(blocks, best).T.reshape(-1, columns)
        return QuantizedTensor(
            integers, bits=4, scales=scales, block_size=_BLOCK_SIZE, activations="dynamic"
        )


def _obstacle(values: Floats) -> str:
    """Say why ``values`` do not fit the format, if they do not."""
    columns = values.shape[1]
    if columns % _BLOCK_SIZE:
        return f"in-dimension {columns} is not a multiple of {_BLOCK_SIZE}"
    largest = max(float(values.max()), -float(values.min()))
    if largest > _HIGH * _LARGEST_SCALE:
        return f"a value of magnitude {largest:.6g} exceeds float16 scales"
    return ""


def _best_scales(blocks: Floats) -> Floats:
    """Return, for each column of ``blocks``, the scale with the least squared error found."""
    highest, lowest = blocks.max(axis=0), blocks.min(axis=0)
    # The usual choice is the one to beat; it does not use that -8 reaches further than 7.
    best = _storable(np.maximum(highest, -lowest) / _HIGH)
    full = np.maximum(highest / _HIGH, lowest / _LOW)
    least = _squared_error(blocks, best)
    for ratio in _RATIOS:
        _keep_better(blocks, _storable(full * ratio), best, least)
    # With the integers fixed, least squares gives the scale in closed form.
    integers = _round(blocks, best)
    power = np.square(integers).sum(axis=0)
    refit = (integers * blocks).sum(axis=0) / np.maximum(power, 1)
    _keep_better(blocks, _storable(refit), best, least)
    return np.where(full > 0, best, np.float32(1))


def _keep_better(blocks: Floats, candidate: Floats, best: Floats, least: Floats) -> None:
    """Replace, in place, the scales that ``candidate`` improves on."""
    error = _squared_error(blocks, candidate)
    better = error < least
    np.copyto(best, candidate, where=better)
    np.copyto(least, error, where=better)


def _squared_error(blocks: Floats, scales: Floats) -> Floats:
    error = _round(blocks, scales)
    error *= scales
    error -= blocks
    np.square(error, out=error)
    total: Floats = error.sum(axis=0)
    return total


def _round(blocks: Floats, scales: Floats) -> Floats:
    """Return the integers nearest to ``blocks / scales`` within the range, still as float32."""
    rounded = blocks / scales
    np.rint(rounded, out=rounded)
    np.clip(rounded, _LOW, _HIGH, out=rounded)
    return rounded


def _storable(scales: npt.NDArray[Any]) -> Floats:
    """Return the nearest positive numbers that float16 and bfloat16 both hold."""
    mantissa, exponent = np.frexp(scales)
    bfloat = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    storable: npt.NDArray[np.float16]
    storable = np.clip(bfloat, _SMALLEST_SCALE, _LARGEST_SCALE).astype(np.float16)
    return storable.astype(np.float32)
