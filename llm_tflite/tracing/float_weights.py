"""The weights of a model as float32, whatever form Keras keeps them in.

Keras keeps a matrix as float32, bfloat16 or float16, as integers with scales (``quantize``), or as
one of these with two thin matrices beside it (``enable_lora``). Float32 is made of them when it is
asked for and kept nowhere, so memory holds one matrix more than the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

FLOATS = ("float32", "bfloat16", "float16")
# What layers call the matrices that Keras quantizes and adapts, and the attributes that hold them.
_MATRICES = {
    "kernel": "_kernel",
    "embeddings": "_embeddings",
    "reverse_embeddings": "reverse_embeddings",
}


@dataclass(frozen=True)
class Integers:
    """How Keras keeps a matrix as integers.

    Attributes:
        shape: Of the matrix, as model code sees it.
        scale: What the integers are divided by, or multiplied with where there are groups.
        fit: Brings ``scale`` into a form that fits the integers, where there are no groups.
        columns: How many values of four bits there are along ``packed_axis``, two in each byte.
        packed_axis: None where each byte holds one value.
        zero: Zero points of groups, of the same shape as ``scale``; None where there are none.
        groups: For each place along ``group_axis``, its group.
        group_axis: The axis that is cut into groups.
    """

    shape: tuple[int, ...]
    scale: keras.Variable
    fit: Callable[[tf.Tensor], tf.Tensor]
    columns: int = 0
    packed_axis: int | None = None
    zero: keras.Variable | None = None
    groups: keras.Variable | None = None
    group_axis: int = 0

    @classmethod
    def of(cls, layer: Any, name: str) -> Integers:
        """Find the form that ``quantize`` chose for a matrix.

        Args:
            layer: A Dense, EinsumDense, Embedding or ReversibleEmbedding.
            name: A key of ``_MATRICES``.
        """
        variable = getattr(layer, _MATRICES[name])
        scale = getattr(layer, f"{name}_scale")
        rows_first = name == "embeddings"
        fit: Callable[[tf.Tensor], tf.Tensor] = _as_column if rows_first else tf.identity
        if not hasattr(layer, "_int4_block_size"):
            fit = getattr(layer, "_adjust_scale_for_dequant", fit)
            return cls(tuple(variable.shape), scale, fit)
        if name == "kernel":
            columns = int(scale.shape[-1])
            shape = getattr(layer, "original_kernel_shape", (variable.shape[0], columns))
        else:
            columns = layer.output_dim
            shape = (layer.input_dim, columns) if rows_first else (columns, layer.input_dim)
        return cls(
            shape=tuple(shape),
            scale=scale,
            fit=fit,
            columns=columns,
            packed_axis=0 if name == "reverse_embeddings" else 1,
            zero=getattr(layer, f"{name}_zero", None),
            groups=getattr(layer, "g_idx", None),
            group_axis=1 if rows_first else 0,
        )

    def floats(self, integers: tf.Tensor) -> tf.Tensor:
        """Return the matrix as float32."""
        if self.packed_axis is not None:
            integers = keras.quantizers.unpack_int4(integers, self.columns, axis=self.packed_axis)
        floats, scale = tf.cast(integers, tf.float32), tf.cast(self.scale.value, tf.float32)
        if self.zero is None or self.groups is None:
            floats /= self.fit(scale)
        else:
            groups = tf.cast(self.groups.value, tf.int32)
            zero = tf.cast(self.zero.value, tf.float32)
            floats -= tf.gather(zero, groups, axis=self.group_axis)
            floats *= tf.gather(scale, groups, axis=self.group_axis)
        return tf.reshape(floats, self.shape)


@dataclass(frozen=True)
class Adapter:
    """The two matrices of LoRA (Hu et al., 2021, arXiv:2106.09685).

    Attributes:
        a: ``[..., rank]``.
        b: ``[rank, out]``.
        scale: What their product is multiplied with.
    """

    a: keras.Variable
    b: keras.Variable
    scale: float

    @classmethod
    def of(cls, layer: Any, name: str) -> Adapter | None:
        """Return the adapter that ``enable_lora`` put beside a matrix, if any."""
        a, b = (getattr(layer, f"lora_{name}_{which}", None) for which in "ab")
        return None if a is None else cls(a, b, layer.lora_alpha / layer.lora_rank)

    def added(self, values: tf.Tensor) -> tf.Tensor:
        """Add the product to a matrix, as Keras does."""
        return values + self.scale * keras.ops.matmul(self.a.value, self.b.value)


@dataclass(frozen=True)
class FloatWeight:
    """One variable, as float32 and with all that belongs to it.

    Attributes:
        source: The Keras variable.
        integers: How to read it where it is quantized.
        adapter: What LoRA adds to it.
    """

    source: keras.Variable
    integers: Integers | None = None
    adapter: Adapter | None = None

    @property
    def path(self) -> str:
        """Keras' name of the variable."""
        return str(self.source.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """As model code sees it."""
        return self.integers.shape if self.integers else tuple(self.source.shape)

    @property
    def dtype(self) -> str:
        """``float32``; the variable's own where it is no weight but a counter or a seed."""
        is_weight = self.integers is not None or self.source.dtype in FLOATS
        return "float32" if is_weight else str(self.source.dtype)

    @property
    def stored_type(self) -> str:
        """What Keras keeps the values in: a type of floats, ``int8`` or ``int4``."""
        is_packed = self.integers is not None and self.integers.packed_axis is not None
        return "int4" if is_packed else str(self.source.dtype)

    @property
    def is_plain(self) -> bool:
        """Whether the variable holds these values as they are."""
        return self.source.dtype == self.dtype and self.adapter is None

    @property
    def value(self) -> tf.Tensor:
        """The values, made anew unless the variable holds them."""
        # An empty scope: one around it may ask for the variable's value just to answer with this.
        with keras.StatelessScope():
            values = self.source.value
            values = self.integers.floats(values) if self.integers else tf.cast(values, self.dtype)
            return self.adapter.added(values) if self.adapter else values

    def numpy(self) -> npt.NDArray[Any]:
        """The values as an array."""
        if self.integers or self.adapter:
            return np.asarray(self.value)
        # TensorFlow would never give back what a tensor of its own took.
        with keras.StatelessScope():
            return np.asarray(self.source.value).astype(self.dtype, copy=False)


class FloatScope(keras.StatelessScope):  # type: ignore[misc]
    """Answers with float32 where model code reads a variable that holds something else.

    Args:
        weights: Those of the model.
        made: Called with each weight that was made, and its values.
    """

    def __init__(
        self,
        weights: Iterable[FloatWeight],
        made: Callable[[FloatWeight, tf.Tensor], None] | None = None,
    ) -> None:
        super().__init__()
        self._weights = {id(weight.source): weight for weight in weights if not weight.is_plain}
        self._made = made

    def only_casts(self, variable: keras.Variable) -> bool:
        """Whether this scope is in force, and all that it does to ``variable`` is to cast it."""
        weight = self._weights.get(id(variable))
        in_force = keras.src.backend.common.stateless_scope.get_stateless_scope() is self
        return in_force and weight is not None and not (weight.integers or weight.adapter)

    def get_current_value(self, variable: keras.Variable) -> Any:
        """What ``variable`` reads as; None where it is read itself."""
        weight = self._weights.get(id(variable))
        if weight is None:
            return super().get_current_value(variable)
        value = weight.value
        if self._made is not None:
            self._made(weight, value)
        return value


def float_weights(model: Any) -> list[FloatWeight]:
    """The weights and counters of a model, in its own order, without adapters and scales."""
    known: dict[int, FloatWeight] = {}
    beside: set[int] = set()
    for layer, name, variable in quantizable_matrices(model):
        adapter = Adapter.of(layer, name)
        integers = Integers.of(layer, name) if variable.dtype == "int8" else None
        known[id(variable)] = FloatWeight(variable, integers, adapter)
        if adapter:
            beside |= {id(adapter.a), id(adapter.b)}
        if integers:
            beside |= {id(integers.scale), id(integers.zero), id(integers.groups)}
    return [
        known.get(id(variable)) or FloatWeight(variable)
        for variable in model.variables
        if id(variable) not in beside
    ]


def quantizable_matrices(model: Any) -> Iterator[tuple[Any, str, keras.Variable]]:
    """Each layer with a matrix that Keras can quantize or adapt, its name there, and the matrix."""
    for layer in model_layers(model):
        for name, attribute in _MATRICES.items():
            variable = getattr(layer, attribute, None)
            if isinstance(variable, keras.Variable):
                yield layer, name, variable


def model_layers(model: Any) -> list[Any]:
    """All layers of a model, itself included."""
    # _flatten_layers is how Keras itself walks nested layers; KerasHub relies on it too.
    return list(model._flatten_layers(include_self=True, recursive=True))


def _as_column(scale: tf.Tensor) -> tf.Tensor:
    return tf.reshape(scale, [-1, 1])
