"""Cache views: Keras code sees ``[1, S, H, D]`` while keys and values stay head-major.

Keys are stored ``[1, Hkv, S, D]`` and values ``[1, Hkv, D, S]``, the layout that needs no
transposed copy in either product of attention (``docs/architecture.md``). What is not recognised
here reads the logical tensor, a plain transposition: slower, and as right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.framework import tensor_util

from .einsum import Equation, is_identity, permutation
from .probe import CacheTensor

Op = Callable[..., Any]


@dataclass(frozen=True)
class _View:
    """A cache in its stored form, and what was done to its logical one."""

    stored: tf.Tensor
    tensor: CacheTensor
    repeats: int = 1


class CacheViews:
    """The caches of one trace, and the ``keras.ops`` that know them."""

    intercepted = ("slice_update", "repeat", "einsum", "multiply", "dot_product_attention")

    def __init__(self) -> None:
        self._views: dict[str, _View] = {}
        # By the name of a product: how to make it again from other activations.
        self._products: dict[str, tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor | None]]] = {}

    def register(self, stored: tf.Tensor, tensor: CacheTensor) -> tf.Tensor:
        """Return the logical form of a stored cache; using it is using the cache."""
        logical = tf.transpose(stored, tensor.inverse_permutation)
        self._views[logical.name] = _View(stored, tensor)
        return logical

    def stored(self, logical: tf.Tensor, tensor: CacheTensor) -> tf.Tensor:
        """Return the stored form of a logical cache, without a copy where it is a view."""
        view = self._find(logical)
        return view.stored if view else tf.transpose(logical, tensor.permutation)

    def _find(self, tensor: Any) -> _View | None:
        if not tf.is_symbolic_tensor(tensor):
            return None
        return self._views.get(source(tensor).name)

    def slice_update(self, original: Op, inputs: Any, start_indices: Any, updates: Any) -> Any:
        """Write in place with one DYNAMIC_UPDATE_SLICE."""
        view = self._find(inputs)
        if view is None or view.repeats != 1:
            return original(inputs, start_indices, updates)
        axes = view.tensor.permutation
        starts = tf.stack([tf.cast(start_indices[axis], tf.int32) for axis in axes])
        written = xla.dynamic_update_slice(view.stored, tf.transpose(updates, axes), starts)
        return self.register(tf.ensure_shape(written, view.tensor.shape), view.tensor)

    def repeat(self, original: Op, x: Any, repeats: Any, axis: int | None = None) -> Any:
        """Only remember that heads are shared; the product reads each of them once."""
        view = self._find(x)
        if view is None or axis not in (2, -2) or view.repeats != 1:
            return original(x, repeats, axis=axis)
        # Two operations where the original takes twenty, and a graph has many layers.
        heads = [i // int(repeats) for i in range(x.shape[2] * int(repeats))]
        result = tf.gather(x, heads, axis=2)
        self._views[result.name] = replace(view, repeats=int(repeats))
        return result

    def einsum(self, original: Op, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
        """Lower a product with a cache to one grouped BATCH_MATMUL on its stored form."""
        equation = Equation.parse(subscripts)
        views = [self._find(operand) for operand in operands]
        if equation is not None and not kwargs and sum(view is not None for view in views) == 1:
            at = 0 if views[0] is not None else 1
            view = views[at]
            if view is not None:
                other = operands[1 - at]
                make = functools.partial(_product, equation, at, view)
                product = make(other)
                if product is not None:
                    self._products[product.name] = (other, make)
                    return product
        return original(subscripts, *operands, **kwargs)

    def multiply(self, original: Op, x1: Any, x2: Any) -> Any:
        """Scale the query instead of the scores, which are larger by the context's length."""
        other, make = self._products.get(getattr(x1, "name", ""), (None, None))
        scale = tensor_util.constant_value(x2) if tf.is_symbolic_tensor(x2) else None
        if make is None or scale is None or scale.ndim:
            return original(x1, x2)
        return make(other * scale)

    def dot_product_attention(
        self,
        original: Op,
        query: Any,
        key: Any,
        value: Any,
        bias: Any = None,
        mask: Any = None,
        scale: float | None = None,
        is_causal: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Spell attention out, so that both of its products meet the views."""
        if self._find(key) is None or bias is not None or is_causal:
            return original(
                query, key, value, bias=bias, mask=mask, scale=scale, is_causal=is_causal, **kwargs
            )
        scale = float(query.shape[-1]) ** -0.5 if scale is None else scale
        scores = keras.ops.einsum("bqhd,bkhd->bhqk", query * scale, key)
        weights = keras.layers.Softmax(dtype="float32")(scores, mask)
        return keras.ops.einsum("bhqk,bkhd->bqhd", weights, value)


def _product(equation: Equation, at: int, view: _View, other: tf.Tensor) -> tf.Tensor | None:
    """``other x cache`` as a BATCH_MATMUL of shape ``[b, heads, rows, ...]``, or None.

    Query heads that share a key-value head become rows of one product: ``[b, Hkv, G * T, ...]``.
    """
    cache_labels, other_labels = equation.operands[at], equation.operands[1 - at]
    result = equation.result
    batch, sequence, head, size = list(cache_labels)
    scores = size in other_labels and size not in result and sequence in result
    combine = sequence in other_labels and sequence not in result and size in result
    kept = batch in other_labels and head in other_labels and batch in result and head in result
    if scores == combine or not kept:
        return None
    contracted, free = (size, sequence) if scores else (sequence, size)
    rows = [label for label in other_labels if label not in (batch, head, contracted)]
    dims = dict(zip(other_labels, other.shape, strict=True))
    kv_heads = view.tensor.logical_shape[2]

    order = "".join([batch, head, *rows, contracted])
    axes = permutation(other_labels, order)
    if not is_identity(axes):
        other = tf.transpose(other, axes)
    flat_rows = dims[head] // kv_heads * prod(dims[row] for row in rows)
    other = tf.reshape(other, [dims[batch], kv_heads, flat_rows, dims[contracted]])
    # Keys are [.., S, D] and values [.., D, S], so that attention contracts either's last axis.
    last = size if view.tensor.kind == "key" else sequence
    if flat_rows == 1 and contracted == last:
        # XNNPACK packs the whole right operand of a product, for one row as for many.
        product = tf.expand_dims(tf.reduce_sum(other * view.stored, axis=-1), 2)
    else:
        product = tf.matmul(other, view.stored, transpose_b=contracted == last)

    dims[free] = product.shape[-1]
    order = "".join([batch, head, *rows, free])
    if set(order) != set(result):
        return None
    product = tf.reshape(product, [dims[label] for label in order])
    axes = permutation(order, result)
    return product if is_identity(axes) else tf.transpose(product, axes)


def source(tensor: tf.Tensor) -> tf.Tensor:
    """Follow ``stack`` followed by indexing, and identities, back to the tensor that went in.

    This is how a view survives KerasHub's stacked cache: ``cache[:, i, ...][:, 0, ...]`` of
    ``stack([stack([k, v], 1), ...], 1)`` is ``k``.
    """
    while True:
        if tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        elif (element := _element(tensor)) is not None:
            tensor = element
        else:
            return tensor


def _element(tensor: tf.Tensor) -> tf.Tensor | None:
    """The input of a Pack that a StridedSlice picks, or None."""
    op = tensor.op
    if op.type != "StridedSlice":
        return None
    pack = source(op.inputs[0]).op
    if pack.type != "Pack" or op.get_attr("shrink_axis_mask") != 1 << pack.get_attr("axis"):
        return None
    begin = tensor_util.constant_value(op.inputs[1])
    return None if begin is None else pack.inputs[int(begin[pack.get_attr("axis")])]
