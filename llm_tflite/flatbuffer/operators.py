"""Make operations and constants for a model that is changed after its conversion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .model import new_operator

_Op = schema.BuiltinOperator
_Options = schema.BuiltinOptions
_TYPES = {"float32": schema.TensorType.FLOAT32, "int32": schema.TensorType.INT32}
# XNNPACK takes SPLIT into so many parts at most.
_MOST_SPLITS = 4


class Operators:
    """Adds to the graphs of a model; equal constants are stored once."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._buffers: dict[bytes, int] = {}
        self._constants: dict[tuple[int, str, tuple[int, ...], bytes], int] = {}

    def constant(self, subgraph: Any, values: np.ndarray) -> int:
        """Return the index of a float32 or int32 constant of a graph."""
        content = values.tobytes()
        key = (id(subgraph), values.dtype.name, values.shape, content)
        if key not in self._constants:
            if content not in self._buffers:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(content, np.uint8)
                self._model.buffers.append(buffer)
                self._buffers[content] = len(self._model.buffers) - 1
            tensor = schema.TensorT()
            tensor.name = f"added_{len(subgraph.tensors)}".encode()
            tensor.type = _TYPES[values.dtype.name]
            tensor.shape = np.array(values.shape, np.int32)
            tensor.buffer = self._buffers[content]
            subgraph.tensors.append(tensor)
            self._constants[key] = len(subgraph.tensors) - 1
        return self._constants[key]

    def multiply(self, one: int, other: int, output: int) -> Any:
        """Return an elementwise product."""
        operator = new_operator(self._model, _Op.MUL, 1, [one, other], [output])
        operator.builtinOptionsType = _Options.MulOptions
        operator.builtinOptions = schema.MulOptionsT()
        return operator

    def reshape(self, subgraph: Any, source: int, output: int) -> Any:
        """Return what gives a tensor the shape of ``output``."""
        shape = np.array(subgraph.tensors[output].shape, np.int32)
        operator = new_operator(
            self._model, _Op.RESHAPE, 1, [source, self.constant(subgraph, shape)], [output]
        )
        operator.builtinOptionsType = _Options.ReshapeOptions
        operator.builtinOptions = schema.ReshapeOptionsT()
        operator.builtinOptions.newShape = shape
        return operator

    def take_apart(
        self, subgraph: Any, whole: int, axis: int, parts: Sequence[tuple[int, int]]
    ) -> list[Any]:
        """Return what copies ranges of a tensor.

        Args:
            subgraph: Whose tensors these are.
            whole: The tensor.
            axis: Along which the ranges lie.
            parts: For each range where it begins, and the tensor that it is copied to.
        """
        shape = np.array(subgraph.tensors[whole].shape, np.int32)
        sizes = [int(subgraph.tensors[part].shape[axis]) for _, part in parts]
        if len(set(sizes)) == 1 and sum(sizes) == shape[axis] and len(parts) <= _MOST_SPLITS:
            at = self.constant(subgraph, np.array(axis, np.int32))
            split = new_operator(
                self._model, _Op.SPLIT, 1, [at, whole], [part for _, part in sorted(parts)]
            )
            split.builtinOptionsType = _Options.SplitOptions
            split.builtinOptions = schema.SplitOptionsT()
            split.builtinOptions.numSplits = len(parts)
            return [split]
        slices = []
        for (start, part), size in zip(parts, sizes, strict=True):
            begin, extent = np.zeros_like(shape), shape.copy()
            begin[axis], extent[axis] = start, size
            ends = [self.constant(subgraph, values) for values in (begin, extent)]
            operator = new_operator(self._model, _Op.SLICE, 1, [whole, *ends], [part])
            operator.builtinOptionsType = _Options.SliceOptions
            operator.builtinOptions = schema.SliceOptionsT()
            slices.append(operator)
        return slices
