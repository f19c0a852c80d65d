"""Checks on numbers that callers pass: refused at the call, by name, with the range that works."""

from __future__ import annotations

import math
from numbers import Integral, Real

from .errors import InvalidOptionError


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """Return ``value`` as an int if it is a whole number in ``low..high`` and not a bool."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
        if low <= number and (high is None or number <= high):
            return number
    upper = "up" if high is None else f"{high}"
    raise InvalidOptionError(f"{name} must be a whole number, {low} to {upper}; got {value!r}")


def check_real(name: str, value: object, low: float, high: float = math.inf) -> float:
    """Return ``value`` as a float if it is a finite number in ``low..high`` and not a bool."""
    if isinstance(value, Real) and not isinstance(value, bool):
        number = float(value)
        if math.isfinite(number) and low <= number <= high:
            return number
    upper = "up" if math.isinf(high) else f"{high:g}"
    raise InvalidOptionError(f"{name} must be a finite number, {low:g} to {upper}; got {value!r}")
