"""See what a model multiplies its weights with, while it computes as always."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any, Generic, TypeVar

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..activations import ActivationStatistics, Distribution, Moments
from ..errors import ConversionError
from .einsum import Equation, permutation
from .float_weights import FloatScope, FloatWeight
from .interception import intercept

Op = Callable[..., Any]
_Seen = TypeVar("_Seen", ActivationStatistics, Moments)


@dataclass(frozen=True)
class Product:
    """Something times a weight, as the model computed it.

    Attributes:
        name: Path of the weight.
        source: What was multiplied with it.
        result: What came out, with the bias where one is added.
        form: How both are rows of a matrix; None where the weight is not used as one.
    """

    name: str
    source: Any
    result: Any
    form: MatrixForm | None


@dataclass(frozen=True)
class MatrixForm:
    """How what goes into a product and what comes out are rows.

    Attributes:
        inputs: Makes ``[rows, in]`` of ``Product.source``, columns in the order in which
            ``WeightViews`` stores those of the matrix.
        outputs: Makes ``[rows, out]`` of ``Product.result``, columns in the order of its rows.
    """

    inputs: Callable[[Any], Any]
    outputs: Callable[[Any], Any]


class ProductObserver(Generic[_Seen]):
    """The ``keras.ops`` that multiply by a weight, and what they saw.

    A scope gives model code one and the same tensor whenever it reads a variable, and by that it is
    recognised. The tensor shares the variable's memory, unless float32 has to be made of it first.

    Args:
        weights: Those of the model.
        look: Called with every product; what it returns for one weight is added up.
        watch: Called with what is about to be multiplied with a weight.
    """

    intercepted = ("einsum", "matmul", "transpose", "add")

    def __init__(
        self,
        weights: list[FloatWeight],
        look: Callable[[Product], _Seen | None],
        watch: Callable[[Any], None] | None = None,
    ) -> None:
        self._weights = weights
        self._watch = watch
        self._look: Callable[[Product], _Seen | None] = look
        self._paths = {id(weight.source): weight.path for weight in weights}
        self._tensors = [(w.source, tf.convert_to_tensor(w.value)) for w in weights if w.is_plain]
        self._names = {id(tensor): variable.path for variable, tensor in self._tensors}
        # Held, so that their ids stay theirs.
        self._transposed: list[Any] = []
        # The last matrix that no variable holds: what multiplies by it has just asked for it.
        self._made: list[Any] = []
        # The last product: a bias may follow.
        self._product: Product | None = None
        self._seen: dict[str, _Seen] = {}

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
    def seen(self) -> dict[str, _Seen]:
        """By path of the variable, what ``look`` found in all products with it."""
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
        return self._observed(
            partial(original, subscripts, **kwargs), operands, partial(_form_of_einsum, subscripts)
        )

    def matmul(self, original: Op, x1: Any, x2: Any) -> Any:
        """Multiply, and see with what."""
        return self._observed(original, (x1, x2), partial(_form_of_matmul, x2))

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
        known = self._product
        if known is not None and x1 is known.result and isinstance(x2, keras.Variable):
            self._product = replace(known, result=result)
        return result

    def _observed(
        self, multiply: Op, operands: tuple[Any, ...], form: Callable[[int], MatrixForm | None]
    ) -> Any:
        names = [self._name(operand) for operand in operands] if len(operands) == 2 else []
        at = next((at for at, name in enumerate(names) if name is not None), None)
        if at is None or tf.is_symbolic_tensor(operands[1 - at]):
            return multiply(*operands)  # traced, to learn the model's cache: it has no values
        if self._watch is not None:
            self._watch(operands[1 - at])
        result = multiply(*operands)
        self._count_product()
        self._product = Product(str(names[at]), operands[1 - at], result, form(at))
        return result

    def _count_product(self) -> None:
        if self._product is None:
            return
        product, self._product = self._product, None
        found = self._look(product)
        if found is not None:
            known = self._seen.get(product.name)
            self._seen[product.name] = found if known is None else known + found


def spread_of(product: Product) -> ActivationStatistics:
    """Return how the values of a product are spread."""
    name = product.name
    return ActivationStatistics(_spread(name, product.source), _spread(name, product.result))


def moments_of(product: Product) -> Moments | None:
    """Return the second moments of what a matrix is multiplied with; None if it is no matrix."""
    if product.form is None:
        return None
    return Moments.of(product.form.inputs(_finite(product.name, product.source)))


def _form_of_einsum(subscripts: str, at: int) -> MatrixForm | None:
    equation = Equation.parse(subscripts)
    if equation is None:
        return None
    source, weight, result = equation.operands[1 - at], equation.operands[at], equation.result
    contracted = [c for c in weight if c not in result]
    if not contracted or any((c in source) == (c in result) for c in weight):
        return None  # as for a mixture of experts
    kept = [c for c in source if c not in contracted]
    free = [c for c in weight if c in result]
    return MatrixForm(
        partial(_as_rows, permutation(source, "".join(kept + contracted)), len(kept)),
        partial(_as_rows, permutation(result, "".join(kept + free)), len(kept)),
    )


def _form_of_matmul(weight: Any, at: int) -> MatrixForm | None:
    if at != 1 or len(weight.shape) != 2:
        return None
    return MatrixForm(_by_last_axis, _by_last_axis)


def _as_rows(order: list[int], kept: int, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    values = values.transpose(order)
    return values.reshape(prod(values.shape[:kept]), -1)


def _by_last_axis(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values.reshape(-1, values.shape[-1])


def _spread(name: str, tensor: Any) -> Distribution:
    return Distribution.of(_finite(name, tensor))


def _finite(name: str, tensor: Any) -> npt.NDArray[np.float32]:
    values = np.asarray(tensor, np.float32)
    if not np.isfinite(values).all():
        raise ConversionError(
            f"expected finite activations on the calibration texts; those at {name!r} hold NaN or "
            "infinity: the model is damaged, or a text is nothing that it can read"
        )
    return values
