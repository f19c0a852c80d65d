"""See what a model multiplies its weights with, while it computes as always."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from ..activations import ActivationStatistics, Distribution
from ..errors import ConversionError
from .float_weights import FloatScope, FloatWeight
from .interception import intercept

Op = Callable[..., Any]


class ProductObserver:
    """The ``keras.ops`` that multiply by a weight, and what they saw.

    A scope gives model code one and the same tensor whenever it reads a variable, and by that it is
    recognised. The tensor shares the variable's memory, unless float32 has to be made of it first.
    """

    intercepted = ("einsum", "matmul", "transpose", "add")

    def __init__(self, weights: list[FloatWeight]) -> None:
        self._weights = weights
        self._paths = {id(weight.source): weight.path for weight in weights}
        self._tensors = [(w.source, tf.convert_to_tensor(w.value)) for w in weights if w.is_plain]
        self._names = {id(tensor): variable.path for variable, tensor in self._tensors}
        # Held, so that their ids stay theirs.
        self._transposed: list[Any] = []
        # The last matrix that no variable holds: what multiplies by it has just asked for it.
        self._made: list[Any] = []
        # The last product and its weight: a bias may follow.
        self._product: tuple[Any, str, Any] | None = None
        self._seen: dict[str, ActivationStatistics] = {}

    @contextlib.contextmanager
    def observing(self) -> Iterator[None]:
        """Watch all products of the block."""
        scope = FloatScope(self._weights, self._hold)
        for update in self._tensors:
            scope.add_update(update)
        with intercept(self), scope:
            yield
        self._count_product()
        self._forget(self._transposed)
        self._forget(self._made)

    @property
    def statistics(self) -> dict[str, ActivationStatistics]:
        """By path of the variable, what was multiplied with it and what came out."""
        return dict(self._seen)

    def _forget(self, tensors: list[Any]) -> None:
        for tensor in tensors:
            del self._names[id(tensor)]
        tensors.clear()

    def _hold(self, weight: FloatWeight, tensor: tf.Tensor) -> None:
        self._forget(self._made)
        self._names[id(tensor)] = weight.path
        self._made.append(tensor)

    def _name(self, tensor: Any) -> str | None:
        if isinstance(tensor, keras.Variable):
            return self._paths.get(id(tensor))
        return self._names.get(id(tensor))

    def einsum(self, original: Op, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
        """Multiply, and see with what."""
        return self._observed(original(subscripts, *operands, **kwargs), operands)

    def matmul(self, original: Op, x1: Any, x2: Any) -> Any:
        """Multiply, and see with what."""
        return self._observed(original(x1, x2), (x1, x2))

    def transpose(self, original: Op, x: Any, axes: Any = None) -> Any:
        """Remember that a transposed matrix is still that matrix."""
        result = original(x, axes=axes)
        name = self._name(x)
        if name is not None:
            self._names[id(result)] = name
            self._transposed.append(result)
        return result

    def add(self, original: Op, x1: Any, x2: Any) -> Any:
        """A bias belongs to the product before it."""
        result = original(x1, x2)
        if self._product is not None and x1 is self._product[0] and isinstance(x2, keras.Variable):
            self._product = (result, *self._product[1:])
        return result

    def _observed(self, result: Any, operands: tuple[Any, ...]) -> Any:
        if tf.is_symbolic_tensor(result):  # traced, to learn the model's cache: it has no values
            return result
        names = [self._name(operand) for operand in operands]
        for at, name in enumerate(names):
            if name is not None and len(operands) == 2:
                self._count_product()
                self._product = (result, name, operands[1 - at])
        return result

    def _count_product(self) -> None:
        if self._product is None:
            return
        result, name, source = self._product
        self._product = None
        found = ActivationStatistics(_spread(name, source), _spread(name, result))
        if known := self._seen.get(name):
            found = ActivationStatistics(known.input + found.input, known.output + found.output)
        self._seen[name] = found


def _spread(name: str, tensor: Any) -> Distribution:
    values = np.asarray(tensor, np.float32)
    if not np.isfinite(values).all():
        raise ConversionError(
            f"expected finite activations on the calibration texts; those at {name!r} hold NaN or "
            "infinity: the model is damaged, or a text is nothing that it can read"
        )
    return Distribution.of(values)
