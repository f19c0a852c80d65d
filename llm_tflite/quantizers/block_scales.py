"""The scale that loses least, for each block of values that are rounded to four bits.

TFLite's ``BlockwiseQuantization`` (schema.fbs) stores values in [-8, 7] and float16 scales, but
XNNPACK multiplies with those scales as bfloat16. Measured with ai-edge-litert 2.3: a stored scale
of 1.00390625 acts as 1.0. So scales are numbers that both formats hold, and the integers are
chosen for the scale that will really be used.

Blocks are columns here, so that numpy works on long rows: 3 times as fast.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float32]

_LOW, _HIGH = -8, 7
_SMALLEST_SCALE, _LARGEST_SCALE = 2.0**-24, 65280.0  # Of float16 with bfloat16's precision.
LARGEST_VALUE = _HIGH * _LARGEST_SCALE

# Shrinking the scale clips the largest value of a block and rounds the other 31 more finely.
# Relative RMS error, Gaussian weights and those of SmolLM2-135M: absmax / 7 gives 0.0970 and
# 0.1018, these ratios and one refit 0.0861 and 0.0845; 64 ratios would gain 0.0002 more.
_RATIOS = tuple(np.linspace(0.75, 1.1, 8, dtype=np.float32))
# A whole row has more to gain from clipping its largest value.
_ROW_RATIOS = tuple(np.linspace(0.4, 1.1, 15, dtype=np.float32))
_LONG = 128


def best_scales(blocks: Floats, importance: Floats | None = None) -> Floats:
    """Return, for each column of ``blocks``, the scale with the least squared error found.

    Args:
        blocks: ``[block, n]``.
        importance: ``[block, 1]``, what a squared error of each value counts; None if all are
            alike.
    """
    highest, lowest = blocks.max(axis=0), blocks.min(axis=0)
    # The usual choice is the one to beat; it does not use that -8 reaches further than 7.
    best = storable(np.maximum(highest, -lowest) / _HIGH)
    full = np.maximum(highest / _HIGH, lowest / _LOW)
    least = _squared_error(blocks, best, importance)
    for ratio in _RATIOS if len(blocks) <= _LONG else _ROW_RATIOS:
        _keep_better(blocks, importance, storable(full * ratio), best, least)
    # With the integers fixed, least squares gives the scale in closed form.
    integers = round_blocks(blocks, best)
    weighted = integers if importance is None else integers * importance
    power = (weighted * integers).sum(axis=0)
    refit = (weighted * blocks).sum(axis=0) / np.where(power > 0, power, 1)
    _keep_better(blocks, importance, storable(refit), best, least)
    return np.where(full > 0, best, np.float32(1))


def round_blocks(blocks: Floats, scales: Floats) -> Floats:
    """Return the integers nearest to ``blocks / scales`` within the range, still as float32."""
    rounded = blocks / scales
    np.rint(rounded, out=rounded)
    np.clip(rounded, _LOW, _HIGH, out=rounded)
    return rounded


def _keep_better(
    blocks: Floats, importance: Floats | None, candidate: Floats, best: Floats, least: Floats
) -> None:
    """Replace, in place, the scales that ``candidate`` improves on."""
    error = _squared_error(blocks, candidate, importance)
    better = error < least
    np.copyto(best, candidate, where=better)
    np.copyto(least, error, where=better)


def _squared_error(blocks: Floats, scales: Floats, importance: Floats | None) -> Floats:
    error = round_blocks(blocks, scales)
    error *= scales
    error -= blocks
    np.square(error, out=error)
    if importance is not None:
        error *= importance
    total: Floats = error.sum(axis=0)
    return total


def storable(scales: npt.NDArray[Any]) -> Floats:
    """Return the nearest positive numbers that float16 and bfloat16 both hold."""
    mantissa, exponent = np.frexp(scales)
    bfloat = np.ldexp(np.rint(mantissa * 256), exponent - 8)
    storable: npt.NDArray[np.float16]
    storable = np.clip(bfloat, _SMALLEST_SCALE, _LARGEST_SCALE).astype(np.float16)
    return storable.astype(np.float32)
