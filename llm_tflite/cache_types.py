"""The types in which keys and values may be kept, and the form that int8 has.

A head's keys, or values, of one token share a scale. In ``int8`` it stands behind them, as one
element more: the cache holds D integers from -127 to 127 and then an exponent ``e``, also int8,
and stands for ``integer * 2 ** (e / 8 - 7)``. So a cache needs no second tensor for its scales. The
scale is the least of that form with which the largest magnitude fits: at most 9 % coarser than the
best one. Magnitudes above 59,600, about where ``float16`` ends too, become that, and those below
6.5e-8 zero. Memory full of zeros stands for zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from .errors import InvalidOptionError

CacheType = Literal["float32", "float16", "int8"]
CACHE_TYPES: tuple[CacheType, ...] = get_args(CacheType)

LARGEST_INTEGER = 127
LARGEST_EXPONENT = 127
# Of the scale: steps in which it doubles, and the octave of the exponent 0. Keys and values are
# small numbers rather than large ones.
STEPS_PER_OCTAVE = 8
FIRST_OCTAVE = -7


def check_cache_type(value: object) -> CacheType:
    """Return the type of a cache.

    Raises:
        InvalidOptionError: It is none of those that there are.
    """
    for known in CACHE_TYPES:
        if value == known:
            return known
    raise InvalidOptionError(f"cache_dtype must be one of {', '.join(CACHE_TYPES)}; got {value!r}")


def stored_size(size: int, dtype: CacheType) -> int:
    """How many elements the ``size`` keys or values of a head and token take."""
    return size + 1 if dtype == "int8" else size


def cache_values(stored: npt.NDArray[Any], dtype: str, size_axis: int) -> npt.NDArray[np.float32]:
    """Return the float32 numbers that a cache stands for.

    Args:
        stored: As the graphs have it.
        dtype: A ``CacheType``.
        size_axis: The axis along which the numbers of one head and token lie.
    """
    if dtype != "int8":
        return stored.astype(np.float32)
    integers, exponents = np.split(stored, [stored.shape[size_axis] - 1], axis=size_axis)
    scales = np.exp2(exponents.astype(np.float32) / STEPS_PER_OCTAVE + FIRST_OCTAVE)
    values: npt.NDArray[np.float32] = integers.astype(np.float32) * scales
    return values


def size_axis(shape: Sequence[int], slot_axis: int) -> int:
    """The axis of D in a cache ``[1, Hkv, S, D]`` or ``[1, Hkv, D, S]``."""
    return next(axis for axis in range(2, len(shape)) if axis != slot_axis)
