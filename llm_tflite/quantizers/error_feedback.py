"""Rounding that makes up for its own errors, column by column.

GPTQ (Frantar et al., 2022, arXiv:2210.17323): what rounding one column adds to the output is taken
off again by the columns that are not rounded yet, as well as their inputs go together with this
one's. What goes together is known within tiles of columns (``activations.Moments``), so errors are
made up for within a tile.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import Moments

from .block_scales import Floats, best_scales, round_blocks

# Added to each column's second moment, as a share of their mean: rows that were not seen are
# like those that were in no more than this.
_DAMPING = 0.01


def round_with_feedback(
    values: Floats, block_size: int, moments: Moments
) -> tuple[npt.NDArray[np.int8], Floats]:
    """Return 4-bit integers ``[out, in]`` and their scales.

    Args:
        values: ``[out, in]``.
        block_size: Values that share a scale; 0 for a whole row.
        moments: Of what the matrix is multiplied with.

    Returns:
        Integers, and scales ``[out, in / block_size]`` or ``[out]``.
    """
    rows, columns = values.shape
    integers = np.empty((rows, columns), np.int8)
    scales = np.empty((columns // block_size if block_size else 1, rows), np.float32)
    if not block_size:
        importance = moments.mean_squares + _DAMPING * moments.mean_squares.mean()
        scales[0] = best_scales(np.ascontiguousarray(values.T), importance[:, np.newaxis])
    start = 0
    for tile in moments.tiles:
        columns_left = np.ascontiguousarray(values[:, start : start + len(tile)].T)
        feedback = _feedback(tile)
        step = block_size or len(tile)
        for first in range(0, len(tile), step):
            block, after = slice(first, first + step), slice(first + step, None)
            if block_size:
                importance = _importance(feedback[block, block])
                scales[(start + first) // block_size] = best_scales(columns_left[block], importance)
            scale = scales[(start + first) // block_size if block_size else 0]
            rounded, errors = _round_block(columns_left[block], scale, feedback[block, block])
            integers[:, start + first : start + first + step] = rounded.T
            columns_left[after] -= feedback[block, after].T @ errors
        start += len(tile)
    return integers, scales.T.copy() if block_size else scales[0]


def _importance(feedback: Floats) -> Floats:
    """What a squared error in each column costs once later columns have made up for it."""
    diagonal: Floats = np.square(feedback.diagonal())
    return np.reciprocal(diagonal)[:, np.newaxis]


def _round_block(block: Floats, scale: Floats, feedback: Floats) -> tuple[Floats, Floats]:
    """Round each row of ``block`` in turn; returns integers and the errors to make up for."""
    rounded, errors = np.empty_like(block), np.empty_like(block)
    for at in range(len(block)):
        rounded[at] = round_blocks(block[at], scale)
        errors[at] = (block[at] - rounded[at] * scale) / feedback[at, at]
        block[at + 1 :] -= np.outer(feedback[at, at + 1 :], errors[at])
    return rounded, errors


def _feedback(tile: Floats) -> Floats:
    """The upper Cholesky factor of the inverse of damped second moments."""
    moments = tile.astype(np.float64)
    size = len(moments)
    mean = np.trace(moments) / size
    moments /= mean or 1.0
    moments[np.diag_indices(size)] += _DAMPING if mean else 1.0
    inverse = np.linalg.inv(moments)
    factor: Floats = np.linalg.cholesky((inverse + inverse.T) / 2).T.astype(np.float32)
    return factor
