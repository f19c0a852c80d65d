"""Attention's products with a cache, on its stored form."""

from __future__ import annotations

from math import prod

import tensorflow as tf

from .cache_view import CacheView
from .einsum import Equation, is_identity, permutation
from .stored_caches import product


def matmul_equation(axes: str) -> Equation | None:
    """What ``matmul(x, view)`` computes, without the axes that the stored form does not have.

    Args:
        axes: Those of the view.
    """
    lead, contracted, free = axes[:-2], axes[-2], axes[-1]
    if {contracted, free} != {"s", "d"} or sum(axis in "1g" for axis in lead) > 1:
        return None
    lead = lead.replace("1", "g")
    stored = "".join(axis for axis in axes if axis not in "1g")
    return Equation((f"{lead}t{contracted}", stored), f"{lead}t{free}")


def cache_product(
    equation: Equation, at: int, view: CacheView, other: tf.Tensor
) -> tf.Tensor | None:
    """``other x cache`` as a BATCH_MATMUL of shape ``[b, heads, rows, ...]``, or None.

    Query heads that share a key-value head become rows of one product: ``[b, Hkv, G * T, ...]``.

    Args:
        equation: The product.
        at: Which operand the cache is.
        view: The cache; its ``stored_axes`` are those of the operand.
        other: The other operand.
    """
    letters = dict(zip(view.stored_axes, equation.operands[at], strict=True))
    batch, sequence, head, size = (letters[axis] for axis in "bshd")
    other_labels, result = equation.operands[1 - at], equation.result
    scores = size in other_labels and size not in result and sequence in result
    combine = sequence in other_labels and sequence not in result and size in result
    kept = batch in other_labels and head in other_labels and batch in result and head in result
    stored = view.visible()
    if scores == combine or not kept or stored is None:
        return None
    contracted, free = (size, sequence) if scores else (sequence, size)
    rows = [label for label in other_labels if label not in (batch, head, contracted)]
    dims = dict(zip(other_labels, other.shape, strict=True))
    kv_heads = view.extent[0]

    order = "".join([batch, head, *rows, contracted])
    axes = permutation(other_labels, order)
    if not is_identity(axes):
        other = tf.transpose(other, axes)
    flat_rows = dims[head] // kv_heads * prod(dims[row] for row in rows)
    other = tf.reshape(other, [dims[batch], kv_heads, flat_rows, dims[contracted]])
    # Keys are [.., S, D] and values [.., D, S], so that attention contracts either's last axis.
    last = size if view.tensor.kind == "key" else sequence
    tensor = view.tensor
    result_rows = product(
        other, stored, tensor.dtype, axis=tensor.size_axis, last=contracted == last
    )

    dims[free] = result_rows.shape[-1]
    order = "".join([batch, head, *rows, free])
    if set(order) != set(result):
        return None
    made = tf.reshape(result_rows, [dims[label] for label in order])
    axes = permutation(order, result)
    return made if is_identity(axes) else tf.transpose(made, axes)
