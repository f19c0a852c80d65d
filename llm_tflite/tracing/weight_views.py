"""Weight views: a large variable enters the graph as an input, in the form that the kernels want.

``keras.StatelessScope`` gives model code a placeholder of the variable's own shape. Products with
it are lowered to FULLY_CONNECTED on a second placeholder ``[out, in]``; the permutation from the
one to the other is remembered, and applied when the weights are injected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import keras
import tensorflow as tf

from .einsum import Equation, is_identity, permutation
from .float_weights import FloatWeight

Op = Callable[..., Any]
Use = Literal["projection", "lookup"]


@dataclass
class WeightView:
    """One variable in one trace.

    Attributes:
        variable: The model's variable, as float32.
        name: Name of its placeholders, and of its argument in every signature.
        logical: Placeholder of the variable's own shape.
        matrix: Placeholder ``[out, in]`` once a product or a lookup has asked for it.
        permutation: Axes of the variable that, reshaped, give ``matrix``.
        uses: What the model does with ``matrix``.
    """

    variable: FloatWeight
    name: str
    logical: tf.Tensor
    matrix: tf.Tensor | None = None
    permutation: tuple[int, ...] = ()
    uses: set[Use] = field(default_factory=set)

    def as_matrix(self, axes: tuple[int, ...], rows: int, use: Use) -> tf.Tensor | None:
        """The ``[rows, rest]`` placeholder, or None where it is already used in another order."""
        shape = (rows, prod(self.variable.shape) // rows)
        if self.matrix is None:
            self.matrix = tf.compat.v1.placeholder(tf.float32, shape, name=f"{self.name}_matrix")
            self.permutation = axes
        if self.permutation != axes or tuple(self.matrix.shape) != shape:
            return None
        self.uses.add(use)
        return self.matrix


class WeightViews:
    """The large variables of one trace, and the ``keras.ops`` that know them."""

    intercepted = ("einsum", "matmul", "take", "transpose", "add")

    def __init__(
        self,
        variables: Iterable[tuple[str, FloatWeight]],
        *,
        head: str | None = None,
        row: tf.Tensor | None = None,
    ) -> None:
        """Make placeholders for them.

        Args:
            variables: Names and variables.
            head: The one that makes logits of one position only, if any.
            row: Index of this position, int32 ``[1]``.
        """
        self._head, self._row = head, row
        self.views = [
            WeightView(
                variable,
                name,
                tf.compat.v1.placeholder(variable.dtype, variable.shape, name=f"{name}_logical"),
            )
            for name, variable in variables
        ]
        self._views = {view.logical.name: view for view in self.views}
        self._transposed: set[str] = set()
        # Reshaped products by name, with the rows [positions, out] that they came from.
        self._rows: dict[str, tf.Tensor] = {}

    def scope(self) -> keras.StatelessScope:
        """A scope in which the variables read as their placeholders."""
        scope = keras.StatelessScope()
        for view in self.views:  # the scope's own arguments would be cast to the variables' types
            scope.add_update((view.variable.source, view.logical))
        return scope

    def _find(self, tensor: Any) -> WeightView | None:
        if isinstance(tensor, keras.Variable):
            tensor = tensor.value
        if not tf.is_symbolic_tensor(tensor):
            return None
        while tensor.op.type == "Identity":
            tensor = tensor.op.inputs[0]
        return self._views.get(tensor.name)

    def _project(
        self, x: tf.Tensor, view: WeightView, matrix: tf.Tensor, shape: list[int]
    ) -> tf.Tensor:
        if view.name == self._head and len(shape) == len(x.shape) == 3:
            x, shape = tf.gather(x, self._row, axis=1), [shape[0], 1, shape[2]]
        rows = tf.matmul(tf.reshape(x, [-1, matrix.shape[1]]), matrix, transpose_b=True)
        result = tf.reshape(rows, shape)
        self._rows[result.name] = rows
        return result

    def einsum(self, original: Op, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
        """Lower activations times weights to FULLY_CONNECTED."""
        equation = Equation.parse(subscripts)
        if equation is not None and not kwargs:
            for at in (1, 0):
                view = self._find(operands[at])
                if view is not None:
                    x = operands[1 - at]
                    product = self._contract(equation, at, view, x)
                    if product is not None:
                        return product
        return original(subscripts, *operands, **kwargs)

    def _contract(
        self, equation: Equation, at: int, view: WeightView, x: tf.Tensor
    ) -> tf.Tensor | None:
        labels, x_labels = equation.operands[at], equation.operands[1 - at]
        result = equation.result
        contracted = [c for c in labels if c in x_labels and c not in result]
        free = [c for c in labels if c in result and c not in x_labels]
        if len(contracted) + len(free) != len(labels) or not contracted:
            return None  # A batch label on a weight (mixture of experts) is no single matrix.
        dims = dict(zip(labels, view.variable.shape, strict=True))
        rows = prod(dims[c] for c in free)
        axes = tuple(labels.index(c) for c in free + contracted)
        matrix = view.as_matrix(axes, rows, "projection")
        if matrix is None:
            return None
        kept = [c for c in x_labels if c not in contracted]
        dims.update(zip(x_labels, x.shape, strict=True))
        order = permutation(x_labels, "".join(kept + contracted))
        if not is_identity(order):
            x = tf.transpose(x, order)
        product = self._project(x, view, matrix, [dims[c] for c in kept + free])
        order = permutation("".join(kept + free), result)
        return product if is_identity(order) else tf.transpose(product, order)

    def matmul(self, original: Op, x1: Any, x2: Any) -> Any:
        """Lower ``x @ kernel`` and ``x @ transpose(embeddings)`` to FULLY_CONNECTED."""
        view = self._find(x2)
        if view is not None and len(view.variable.shape) == 2:
            axes = (0, 1) if x2.name in self._transposed else (1, 0)
            matrix = view.as_matrix(axes, view.variable.shape[axes[0]], "projection")
            if matrix is not None:
                return self._project(x1, view, matrix, [*x1.shape[:-1], matrix.shape[0]])
        return original(x1, x2)

    def transpose(self, original: Op, x: Any, axes: Any = None) -> Any:
        """Remember that a transposed matrix is still that matrix."""
        result = original(x, axes=axes)
        view = self._find(x)
        if view is not None and len(view.variable.shape) == 2 and axes in (None, (1, 0), [1, 0]):
            self._views[result.name] = view
            self._transposed.add(result.name)
        return result

    def take(self, original: Op, x: Any, indices: Any, axis: int | None = None) -> Any:
        """Look rows up with 1-d ids, the only rank that EMBEDDING_LOOKUP takes."""
        view = self._find(x)
        if view is not None and axis == 0 and len(view.variable.shape) == 2:
            table = view.as_matrix((0, 1), view.variable.shape[0], "lookup")
            if table is not None:
                ids = tf.reshape(tf.cast(indices, tf.int32), [-1])
                return tf.reshape(tf.gather(table, ids), [*indices.shape, table.shape[1]])
        return original(x, indices, axis=axis)

    def add(self, original: Op, x1: Any, x2: Any) -> Any:
        """Add a bias to the rows of a product, where the converter fuses it."""
        rows = self._rows.get(x1.name) if tf.is_symbolic_tensor(x1) else None
        if rows is None or not isinstance(x2, keras.Variable):
            return original(x1, x2)
        shape = tuple(x2.shape)
        if prod(shape) != rows.shape[1] or shape != tuple(x1.shape)[len(x1.shape) - len(shape) :]:
            return original(x1, x2)
        biased = tf.nn.bias_add(rows, tf.reshape(x2.value, [-1]))
        return tf.reshape(biased, x1.shape)
