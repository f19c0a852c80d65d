"""Cache views: Keras code sees ``[1, S, H, D]`` while keys and values stay head-major.

Keys are stored ``[1, Hkv, S, D]`` and values ``[1, Hkv, D, S]``, the layout that needs no
transposed copy in either product of attention (``docs/architecture.md``). What is not recognised
here reads the logical tensor, a plain transposition in float32: slower, and as right.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.compiler.tf2xla.python import xla
from tensorflow.python.framework import tensor_util

from ..errors import UnsupportedModelError
from .cache_products import cache_product, matmul_equation
from .cache_view import CacheView
from .einsum import Equation
from .probe import CacheTensor
from .stored_caches import decoded, encoded

Op = Callable[..., Any]

# The operations that a view is followed through.
_FORMS = ("Transpose", "ExpandDims", "Reshape", "StridedSlice")


class CacheViews:
    """The caches of one trace, and the ``keras.ops`` that know them."""

    intercepted = (
        "slice_update",
        "repeat",
        "einsum",
        "matmul",
        "multiply",
        "dot_product_attention",
    )

    def __init__(self) -> None:
        self._views: dict[str, CacheView] = {}
        # By the name of a product: how to make it again from other activations.
        self._products: dict[str, tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor | None]]] = {}

    def register(
        self, stored: tf.Tensor, tensor: CacheTensor, written: tuple[int, int] = (0, 0)
    ) -> tf.Tensor:
        """Return the logical form of a stored cache; using it is using the cache."""
        numbers = decoded(stored, tensor.dtype, tensor.size_axis)
        logical = tf.transpose(numbers, tensor.inverse_permutation)
        if tensor.extent is not None:  # what is never written is zeros, as in Keras
            sizes = zip(tensor.logical_shape, logical.shape, strict=True)
            logical = tf.pad(logical, [[0, whole - part] for whole, part in sizes])
        self._views[logical.name] = CacheView.of(stored, tensor, written)
        return logical

    def stored(self, logical: tf.Tensor, tensor: CacheTensor) -> tf.Tensor:
        """Return the stored form of a logical cache, without a copy where it is a view."""
        view = self._find(logical)
        if view is not None and view.untouched and view.tensor.shape == tensor.shape:
            return view.stored
        if tensor.dtype == "int8":  # rounded again at every token, old ones would fade
            raise _not_in_place(tensor)
        numbers = tf.transpose(logical, tensor.permutation)[tuple(map(slice, tensor.shape))]
        return encoded(numbers, tensor.dtype, tensor.size_axis)

    def written(self, logical: tf.Tensor, tensor: CacheTensor) -> tuple[int, int]:
        """Return how many heads, and how much of each, a call writes to at most."""
        view = self._find(logical)
        return tensor.whole_extent if view is None or not view.untouched else view.written

    def _find(self, tensor: Any) -> CacheView | None:
        if not tf.is_symbolic_tensor(tensor):
            return None
        tensor = source(tensor)
        view = self._views.get(tensor.name)
        if view is None and tensor.op.inputs and tensor.op.type in _FORMS:
            below = self._find(tensor.op.inputs[0])
            view = None if below is None else below.through(tensor)
        return view

    def slice_update(self, original: Op, inputs: Any, start_indices: Any, updates: Any) -> Any:
        """Write in place with one DYNAMIC_UPDATE_SLICE."""
        view = self._find(inputs)
        if view is None or not view.untouched:
            return original(inputs, start_indices, updates)
        tensor = view.tensor
        written = tensor.whole_extent
        heads, size = (tensor.axes.index(axis) for axis in "hd")
        if isinstance(start_indices[heads], int) and isinstance(start_indices[size], int):
            written = (
                max(view.written[0], start_indices[heads] + updates.shape[heads]),
                max(view.written[1], start_indices[size] + updates.shape[size]),
            )
        axes = tensor.permutation
        starts = tf.stack([tf.cast(start_indices[axis], tf.int32) for axis in axes])
        if tensor.dtype == "int8" and updates.shape[size] != tensor.stored_extent[1]:
            raise _not_in_place(tensor)  # a head has one scale
        numbers = encoded(tf.transpose(updates, axes), tensor.dtype, tensor.size_axis)
        result = xla.dynamic_update_slice(view.stored, numbers, starts)
        return self.register(tf.ensure_shape(result, tensor.shape), tensor, written)

    def repeat(self, original: Op, x: Any, repeats: Any, axis: int | None = None) -> Any:
        """Only remember that heads are shared; the product reads each of them once."""
        view = self._find(x)
        if view is None or axis is None:
            return original(x, repeats, axis=axis)
        axis %= len(x.shape)
        repeated = view.repeated(axis, int(repeats))
        if repeated is None:
            return original(x, repeats, axis=axis)
        # Two operations where the original takes twenty, and a graph has many layers.
        elements = [i // int(repeats) for i in range(x.shape[axis] * int(repeats))]
        result = tf.gather(x, elements, axis=axis)
        self._views[result.name] = repeated
        return result

    def einsum(self, original: Op, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
        """Lower a product with a cache to one grouped BATCH_MATMUL on its stored form."""
        equation = Equation.parse(subscripts)
        views = [self._find(operand) for operand in operands]
        if equation is not None and not kwargs and sum(view is not None for view in views) == 1:
            at = 0 if views[0] is not None else 1
            view = views[at]
            if view is not None and view.axes == view.stored_axes:
                product = self._product(equation, at, view, operands[1 - at])
                if product is not None:
                    return product
        return original(subscripts, *operands, **kwargs)

    def matmul(self, original: Op, x1: Any, x2: Any) -> Any:
        """Lower ``x @ cache`` the same way."""
        view = self._find(x2)
        if view is not None and len(x1.shape) == len(view.axes):
            equation = matmul_equation(view.axes)
            product = None if equation is None else self._product(equation, 1, view, x1)
            if product is not None:
                return product
        return original(x1, x2)

    def _product(
        self, equation: Equation, at: int, view: CacheView, other: Any
    ) -> tf.Tensor | None:
        make = functools.partial(cache_product, equation, at, view)
        product = make(other)
        if product is not None:
            self._products[product.name] = (other, make)
        return product

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


def _not_in_place(tensor: CacheTensor) -> UnsupportedModelError:
    return UnsupportedModelError(
        f"cache_dtype='int8' needs a model that writes whole heads to its cache, once for each "
        f"token; this one writes to {tensor.name} in another way: use 'float16' or 'float32'"
    )


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
