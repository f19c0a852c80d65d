"""Which operations treat the entries of an axis on their own, and where the axis is behind them.

Semantics are those of ``tflite/schema.fbs`` and the kernels of github.com/google-ai-edge/LiteRT.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, TypeAlias

import numpy as np
from ai_edge_litert import schema_py_generated as schema

_Op = schema.BuiltinOperator
_ELEMENTWISE = {
    *(_Op.ADD, _Op.SUB, _Op.MUL, _Op.DIV, _Op.SQUARE, _Op.SQRT, _Op.RSQRT, _Op.NEG),
    *(_Op.MAXIMUM, _Op.MINIMUM, _Op.LOGISTIC, _Op.TANH),
}
_REDUCTIONS = {_Op.MEAN, _Op.SUM, _Op.REDUCE_MAX, _Op.REDUCE_MIN}

Shape: TypeAlias = Sequence[int]
Constants: TypeAlias = Sequence[np.ndarray | None]


def axis_behind(
    code: int,
    operator: Any,
    axis: int,
    *,
    shapes: Sequence[tuple[Shape, Shape]],
    constants: Constants,
    others: Constants,
) -> int | None:
    """Return the axis along which results of two equal operations follow one another.

    Args:
        code: The operation's.
        operator: One of the two, whose options are the same.
        axis: Of what they read, counted from the last, which is -1.
        shapes: Of their first inputs and of their first results.
        constants: The inputs of one that are constants.
        others: Those of the other.

    Returns:
        The axis, counted from the last; None where the entries are not treated alike.
    """
    (source, _), results = shapes
    rank = len(source)
    options = operator.builtinOptions
    if code in _ELEMENTWISE:
        return axis
    if code == _Op.RESHAPE:
        return _axis_of_reshape(shapes[0], results, axis)
    if code == _Op.CONCATENATION:
        return axis if options.axis % rank != axis % rank else None
    # The others have an input that says where, and that must be the same.
    at = 0 if code == _Op.SPLIT else 1
    if len(constants) != 2 or constants[at] is None or others[at] is None:
        return None
    where = constants[at].reshape(-1)  # type: ignore[union-attr]
    if not np.array_equal(where, others[at].reshape(-1)):  # type: ignore[union-attr]
        return None
    if code == _Op.SPLIT:
        rank = len(results[0])
        return axis if where[0] % rank != axis % rank else None
    if code in _REDUCTIONS:
        apart = options.keepDims and axis % rank not in {int(index) % rank for index in where}
        return axis if apart else None
    if code == _Op.TRANSPOSE:
        return where.tolist().index(axis % rank) - rank
    return None


def _axis_of_reshape(
    sources: tuple[Shape, Shape], results: tuple[Shape, Shape], axis: int
) -> int | None:
    """The axis that a reshape makes of an axis with what is behind it, in the order of memory."""
    lead = prod(sources[0][: len(sources[0]) + axis])
    if len(results[0]) != len(results[1]):
        return None
    for at in reversed(range(len(results[0]))):
        leads = {prod(result[:at]) for result in results}
        behind = {tuple(result[at + 1 :]) for result in results}
        if leads == {lead} and len(behind) == 1:
            return at - len(results[0])
    return None


def joint_constant(
    one: np.ndarray, other: np.ndarray, axis: int, sizes: tuple[int, int]
) -> np.ndarray | None:
    """Return what two elementwise operations read, for parts of these sizes along an axis."""
    rows = []
    for values, size in zip((one, other), sizes, strict=True):
        whole = values.reshape([1] * max(0, -axis - values.ndim) + list(values.shape))
        if whole.shape[axis] == 1:
            whole = np.repeat(whole, size, axis)
        if whole.shape[axis] != size:
            return None
        rows.append(whole)
    if rows[0].ndim != rows[1].ndim:
        return None
    joint: np.ndarray = np.concatenate(rows, axis)
    return joint


def same_options(one: Any, other: Any) -> bool:
    """Whether two operations of one code do the same; a reshape's shape is an input as well."""
    if one.builtinOptionsType == schema.BuiltinOptions.ReshapeOptions:
        return True
    first, second = one.builtinOptions, other.builtinOptions
    return (None if first is None else vars(first)) == (None if second is None else vars(second))
