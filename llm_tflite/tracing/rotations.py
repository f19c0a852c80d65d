"""Rotary embeddings in the fewest operations per layer.

KerasHub computes ``x * cos + concat(-b, a) * sin`` from the halves ``a`` and ``b`` of ``x``, and
scales the query afterwards. Cosines and sines are one tensor each for all layers, so signs and
scale go to them: of eight operations per query, six are left.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import tensor_util

from .graph_nodes import make_constant, static_shape


class Rotations:
    """The rotations of a GraphDef, which are rewritten in place; what they leave is unreachable."""

    def __init__(self, graph: Any) -> None:
        """Begin with all nodes; their shapes should be among their attributes."""
        self._graph = graph
        self._nodes = {node.name: node for node in graph.node}
        self._signed: set[str] = set()

    def shorten(self) -> None:
        """Rewrite every rotation that is recognised."""
        products = [node for node in self._graph.node if node.op == "Mul"]
        for product in products:
            self._move_sign(product)
        for product in products:
            self._move_scale(product)

    def _move_sign(self, product: Any) -> None:
        """``concat(-b, a) * sin`` becomes ``concat(b, a) * (sin * [-1, .., 1, ..])``."""
        for at in (0, 1):
            halves, sines = self._node(product.input[at]), self._node(product.input[1 - at])
            negated = self._negated_half(halves)
            if negated is None or static_shape(halves)[-1:] != static_shape(sines)[-1:]:
                continue
            half, size = static_shape(negated)[-1], static_shape(halves)[-1]
            signs = np.where(np.arange(size) < half, -1, 1)
            swapped = self._copy(halves, f"{product.name}/swapped")
            swapped.input[0] = negated.input[0]
            product.input[at] = swapped.name
            self._multiply_input(product, 1 - at, signs)
            self._signed.add(product.name)
            return

    def _negated_half(self, halves: Any) -> Any:
        """The Neg that begins a concatenation of two along the last axis, or None."""
        if halves.op != "ConcatV2" or len(halves.input) != 3:
            return None
        first, axis = self._node(halves.input[0]), self._scalar(halves.input[2])
        last = axis is not None and axis in (-1, len(static_shape(halves)) - 1)
        return first if last and first.op == "Neg" and static_shape(first) else None

    def _move_scale(self, product: Any) -> None:
        """``(x * cos + y * sin) * scale`` becomes ``x * (cos * scale) + y * (sin * scale)``."""
        for at in (0, 1):
            total, scale = self._node(product.input[at]), self._scalar(product.input[1 - at])
            if scale is None or total.op != "AddV2":
                continue
            terms = [self._node(name) for name in total.input]
            if any(term.op != "Mul" for term in terms) or not any(
                term.name in self._signed for term in terms
            ):
                continue
            scaled = []
            for i, term in enumerate(terms):
                sizes = [np.prod(static_shape(self._node(name))) for name in term.input]
                copy = self._copy(term, f"{product.name}/term_{i}")
                self._multiply_input(copy, int(sizes[1] <= sizes[0]), scale)
                scaled.append(copy.name)
            product.op = "AddV2"
            product.input[:] = scaled
            return

    def _multiply_input(self, node: Any, at: int, value: np.ndarray | np.generic) -> None:
        """Multiply one input of a Mul; the converter merges what all layers have in common."""
        factor = self._graph.node.add(name=f"{node.name}/factor")
        make_constant(factor, value.astype(tf.as_dtype(node.attr["T"].type).as_numpy_dtype))
        result = self._graph.node.add(name=f"{node.name}/multiplied", op="Mul")
        result.attr["T"].CopyFrom(node.attr["T"])
        result.attr["_output_shapes"].CopyFrom(self._node(node.input[at]).attr["_output_shapes"])
        result.input.extend([node.input[at], factor.name])
        node.input[at] = result.name
        self._nodes |= {factor.name: factor, result.name: result}

    def _copy(self, node: Any, name: str) -> Any:
        copy = self._graph.node.add()
        copy.CopyFrom(node)
        copy.name = name
        self._nodes[name] = copy
        return copy

    def _node(self, name: str) -> Any:
        return self._nodes[name.split(":")[0]]

    def _scalar(self, name: str) -> np.ndarray | None:
        """The value of a constant number, or None."""
        node = self._node(name)
        while node.op in ("Identity", "Cast"):
            node = self._node(node.input[0])
        if node.op != "Const":
            return None
        value: np.ndarray = tensor_util.MakeNdarray(node.attr["value"].tensor)
        return None if value.ndim else value
