"""Matrices that a strategy must be able to store, whatever it thinks of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Matrix: TypeAlias = npt.NDArray[np.float32]


def usual_matrices() -> Mapping[str, Matrix]:
    """Matrices of the kinds that models have, ``[64, 256]``, by what they are called."""
    random = np.random.default_rng(0)
    return {
        "normal values": random.normal(0, 0.02, (64, 256)).astype(np.float32),
        "values with heavy tails": random.laplace(0, 0.02, (64, 256)).astype(np.float32),
    }


def odd_matrices() -> Mapping[str, Matrix]:
    """Matrices that are rare and finite, by what is odd about them."""
    matrices = {f"shape {shape}": _normal(*shape) for shape in _SHAPES}
    for name, exponent in _MAGNITUDES.items():
        matrices[name] = np.ldexp(_normal(3, 64), exponent)
    matrices["zeros only"] = np.zeros((3, 64), np.float32)
    matrices["a row of zeros"] = _normal(3, 64)
    matrices["a row of zeros"][1] = 0
    matrices["a block of zeros"] = _normal(3, 64)
    matrices["a block of zeros"][:, :32] = 0
    matrices["one value alike"] = np.full((3, 64), 0.25, np.float32)
    matrices["an outlier"] = _normal(3, 64)
    matrices["an outlier"][0, 0] = 1000
    matrices["rows of very different magnitudes"] = np.ldexp(
        _normal(3, 64), np.array([[-60], [0], [60]])
    )
    return matrices


def all_matrices() -> Mapping[str, Matrix]:
    """Both kinds."""
    return {**usual_matrices(), **odd_matrices()}


_SHAPES = ((1, 1), (1, 64), (64, 1), (1, 33), (5, 31), (7, 96), (32, 100))
_MAGNITUDES = {
    "values below float32's normal range": -140,
    "values too small for float16": -40,
    "values too large for float16": 20,
    "values near float32's limit": 124,
}


def _normal(rows: int, columns: int) -> Matrix:
    return np.random.default_rng(rows * 1000 + columns).normal(size=(rows, columns)).astype("f4")
