"""What a strategy makes of a matrix, and how that is judged."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from ..activations import ActivationStatistics, Distribution
from ..quantization import QuantizationStrategy, QuantizedTensor, Weight, needs_calibration
from .matrices import Matrix

Role: TypeAlias = Literal["projection", "embedding"]
ROLES: tuple[Role, ...] = ("projection", "embedding")

# Of products of made-up activations: a power of two below float32's limit can still be counted.
_LARGEST = 2.0**126


def weight_of(strategy: QuantizationStrategy, role: Role, name: str, values: Matrix) -> Weight:
    """Say what a matrix is, as the converter does; with statistics if a strategy asks for them."""
    statistics = None
    if role == "projection" and needs_calibration(strategy):
        statistics = _statistics(values)
    rows, columns = values.shape
    return Weight(f"{name} as {role}", role, (rows, columns), statistics=statistics)


def _statistics(values: Matrix) -> ActivationStatistics:
    """Of 64 rows of normal values and their products."""
    source = np.random.default_rng(0).normal(size=(64, values.shape[1]))
    product = np.clip(source @ values.T.astype(np.float64), -_LARGEST, _LARGEST)
    return ActivationStatistics(
        Distribution.of(source.astype(np.float32)), Distribution.of(product.astype(np.float32))
    )


def difference(first: QuantizedTensor, second: QuantizedTensor) -> str:
    """Return the names of the fields that are not the same bytes, if any are."""
    names = []
    for name in vars(first):
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
            one, other = (one.dtype, one.tobytes()), (other.dtype, other.tobytes())
        if one != other:
            names.append(name)
    return " and ".join(names)


def relative_error(values: Matrix, restored: Matrix) -> float:
    """Return the root mean square of the error over that of ``values``; 0 for zeros restored."""
    exact = values.astype(np.float64)
    size, error = np.linalg.norm(exact), np.linalg.norm(restored - exact)
    return float(error / size) if size else float(error)


def scales_that_change(tensor: QuantizedTensor) -> int:
    """Count scales of blocks that are not the same number in float16 and in bfloat16."""
    if tensor.scales is None or not tensor.block_size:
        return 0
    with np.errstate(over="ignore"):
        held = tensor.scales.astype(np.float16).astype(np.float32) == tensor.scales
    held &= tensor.scales.view(np.uint32) & 0xFFFF == 0
    return int((~held).sum())
