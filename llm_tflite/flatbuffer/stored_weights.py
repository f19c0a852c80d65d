"""Read the weights of a model back, in the order in which they were placed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ..errors import IncompatibleArtifactError
from .model import parse

_Type = schema.TensorType
_BITS = {_Type.FLOAT32: 32, _Type.FLOAT16: 16, _Type.INT8: 8, _Type.INT4: 4}
_DTYPES = {32: np.float32, 16: np.float16, 8: np.int8, 4: np.uint8}


@dataclass(frozen=True, eq=False)
class StoredWeight:
    """A weight as a file holds it; nothing of it is read before ``dequantize``.

    Attributes:
        shape: ``(out, in)``; any other for what is no matrix.
        bits: Per value: 32, 16, 8 or 4.
        scales: One for each row, or for each block of a row; None for floating-point values.
    """

    shape: tuple[int, ...]
    bits: int
    scales: npt.NDArray[np.float32] | None
    _data: memoryview

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return what the model multiplies with: float32 of ``shape``."""
        stored = np.frombuffer(self._data, _DTYPES[self.bits])
        if self.bits == 4:
            stored = _unpacked(stored, math.prod(self.shape))
        values = stored.astype(np.float32)
        if self.scales is not None:
            values = (values.reshape(self.scales.size, -1) * self.scales.reshape(-1, 1)).ravel()
        return values.reshape(self.shape)


def stored_weights(data: memoryview) -> Iterator[StoredWeight]:
    """Give each constant that lies behind the flatbuffer once, without the scales of blocks.

    Args:
        data: A whole ``.tflite`` model.

    Raises:
        IncompatibleArtifactError: A constant is of a type that is not written here.
    """
    model = parse(data)
    weights: dict[int, tuple[Any, Any]] = {}
    scales: set[int] = set()
    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            if model.buffers[tensor.buffer].offset > 1:  # 0 and 1 mean that there is none
                weights.setdefault(tensor.buffer, (subgraph, tensor))
                if details := _blocks(tensor):
                    scales.add(subgraph.tensors[details.scales].buffer)
    for index in sorted(weights.keys() - scales):
        subgraph, tensor = weights[index]
        if tensor.type not in _BITS:
            raise IncompatibleArtifactError(
                f"expected weights of {', '.join(map(str, _DTYPES))} bits; "
                f"{tensor.name.decode()!r} is of the type {tensor.type}"
            )
        yield StoredWeight(
            shape=tuple(int(dim) for dim in tensor.shape),
            bits=_BITS[tensor.type],
            scales=_scales(model, subgraph, tensor, data),
            _data=_content(model, index, data),
        )


def _blocks(tensor: Any) -> Any:
    """Where the scales of blocks are; None for a tensor without blocks."""
    quantization = tensor.quantization
    kind = schema.QuantizationDetails.BlockwiseQuantization
    return quantization.details if quantization and quantization.detailsType == kind else None


def _scales(
    model: Any, subgraph: Any, tensor: Any, data: memoryview
) -> npt.NDArray[np.float32] | None:
    if details := _blocks(tensor):
        content = _content(model, subgraph.tensors[details.scales].buffer, data)
        return np.frombuffer(content, np.float16).astype(np.float32)
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return None
    return np.asarray(quantization.scale, np.float32)


def _content(model: Any, index: int, data: memoryview) -> memoryview:
    buffer = model.buffers[index]
    return data[buffer.offset : buffer.offset + buffer.size]


def _unpacked(pairs: npt.NDArray[Any], count: int) -> npt.NDArray[np.int8]:
    """Two values of four bits from each byte, the first from the low half, with their signs."""
    values = np.stack([pairs << 4, pairs & 0xF0], axis=-1).view(np.int8) >> 4
    return values.ravel()[:count]
