"""Rounding that makes up for its own errors, by what calibration saw a matrix multiplied with.

First, columns are rounded in turn, as in GPTQ (Frantar et al., 2022, arXiv:2210.17323): what
rounding one adds to the output is taken off again by the columns that are not rounded yet, as well
as their inputs go together with this one's. Then, a few times: each scale becomes the best one for
its integers, and each column is rounded again for what all others are by now.

What goes together is known within tiles of columns (``activations.Moments``), so errors are made up
for within a tile. Matrices are transposed here: a column of the matrix is a long row for numpy.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import Moments

from .block_scales import Floats, best_scales, round_blocks, storable

# Added to each column's second moment, as a share of their mean: inputs that calibration did not
# see may go together in other ways.
_DAMPING = 0.01
# On stories15M the error of what comes out is 0.92, 0.88 and 0.87 of GPTQ's after 1, 3 and 6.
_PASSES = 3
# Columns that are rounded before others hear of it; with a scale per row any number would do.
_STEP = 32


def round_with_feedback(
    values: Floats, block_size: int, moments: Moments
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return 4-bit integers and their scales.

    Args:
        values: ``[out, in]``.
        block_size: Values that share a scale; 0 for a whole row.
        moments: Of what the matrix is multiplied with.

    Returns:
        Integers ``[out, in]``, and scales ``[out, in / block_size]`` or ``[out]``.
    """
    integers = np.empty(values.shape, np.int8)
    row_scales = None if block_size else _row_scales(values, moments)
    scales, start = [], 0
    for tile in moments.tiles:
        part = slice(start, start + len(tile))
        rounding = _Rounding(values[:, part], tile, block_size or _STEP)
        rounding.in_turn(row_scales)
        for _ in range(_PASSES):
            if row_scales is None:
                rounding.fit_scales()
            rounding.again()
        integers[:, part] = rounding.integers.T
        scales.append(rounding.scales)
        start += len(tile)
    return integers, row_scales if row_scales is not None else np.concatenate(scales).T.copy()


def _row_scales(values: Floats, moments: Moments) -> Floats:
    squares = moments.mean_squares
    importance = squares + _DAMPING * squares.mean() if squares.any() else np.ones_like(squares)
    return best_scales(np.ascontiguousarray(values.T), importance[:, np.newaxis])


class _Rounding:
    """A tile of a matrix while it is rounded.

    Attributes:
        integers: float32 ``[n, out]``.
        scales: ``[blocks, out]``.
    """

    def __init__(self, values: Floats, moments: Floats, step: int) -> None:
        self._target = np.ascontiguousarray(values.T)
        self._moments = _damped(moments)
        self._blocks = [slice(at, at + step) for at in range(0, len(moments), step)]
        self.integers = np.empty_like(self._target)
        self.scales = np.empty((len(self._blocks), len(values)), np.float32)
        # How the error of what comes out falls as values grow.
        self._slope = np.empty_like(self._target)

    def in_turn(self, row_scales: Floats | None) -> None:
        """Round each column for those before it."""
        left = self._target.copy()
        feedback = _feedback(self._moments)
        for at, block in enumerate(self._blocks):
            inner, after = feedback[block, block], slice(block.stop, None)
            if row_scales is None:
                # What an error costs once later columns have made up for it.
                importance = np.reciprocal(np.square(inner.diagonal()))[:, np.newaxis]
                self.scales[at] = best_scales(left[block], importance)
            else:
                self.scales[at] = row_scales
            errors, rounded = left[block].copy(), self.integers[block]
            for column in range(len(errors)):
                rounded[column] = round_blocks(errors[column], self.scales[at])
                errors[column] -= rounded[column] * self.scales[at]
                errors[column] /= inner[column, column]
                errors[column + 1 :] -= np.outer(inner[column, column + 1 :], errors[column])
            left[after] -= feedback[block, after].T @ errors
            left[block] = self._target[block] - rounded * self.scales[at]
        self._slope = self._moments @ left

    def fit_scales(self) -> None:
        """Give each block the scale that is best for all integers as they are."""
        for at, block in enumerate(self._blocks):
            integers, scales = self.integers[block], self.scales[at]
            power = (integers * (self._moments[block, block] @ integers)).sum(axis=0)
            gain = (integers * self._slope[block]).sum(axis=0)
            step = storable(scales + gain / np.where(power > 0, power, 1)) - scales
            step[step * (2 * gain - step * power) <= 0] = 0
            scales += step
            self._moved(block, step * integers)

    def again(self) -> None:
        """Round each column once more, for all others."""
        for at, block in enumerate(self._blocks):
            inner, scales = self._moments[block, block], self.scales[at]
            near, steps = self._slope[block].copy(), np.empty_like(self._slope[block])
            for column, integers in enumerate(self.integers[block]):
                wanted = integers * scales + near[column] / inner[column, column]
                rounded = round_blocks(wanted, scales)
                steps[column] = (rounded - integers) * scales
                integers[:] = rounded
                near -= np.outer(inner[:, column], steps[column])
            self._moved(block, steps)

    def _moved(self, block: slice, steps: Floats) -> None:
        self._slope -= self._moments[:, block] @ steps


def _damped(moments: Floats) -> Floats:
    """Second moments with a mean of 1 on the diagonal, and something on it everywhere."""
    mean = float(moments.trace()) / len(moments)
    if not mean:
        return np.eye(len(moments), dtype=np.float32)
    damped: Floats = moments / np.float32(mean)
    damped[np.diag_indices(len(damped))] += np.float32(_DAMPING)
    return damped


def _feedback(moments: Floats) -> Floats:
    """The upper Cholesky factor of the inverse."""
    inverse = np.linalg.inv(moments.astype(np.float64))
    factor: Floats = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    return factor
