"""Read the weights of a model back, in the order in which they were placed."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from ..errors import IncompatibleArtifactError
from .model import blockwise, parse

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

    def parts(self, rows: Iterable[int]) -> Iterator[StoredWeight]:
        """Give so many rows after the other: matrices that are stored one below the other."""
        row_bits, begin = math.prod(self.shape[1:]) * self.bits, 0
        blocks = 0 if self.scales is None else self.scales.size // self.shape[0]
        for count in rows:
            end = begin + count
            yield StoredWeight(
                shape=(count, *self.shape[1:]),
                bits=self.bits,
                scales=self.scales
                if self.scales is None
                else self.scales[begin * blocks : end * blocks],
                _data=self._data[begin * row_bits // 8 : end * row_bits // 8],
            )
            begin = end

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
                if details := blockwise(tensor):
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


def taken_apart(
    stored: Iterable[StoredWeight], shapes: Sequence[tuple[int, ...]]
) -> Iterator[StoredWeight]:
    """Give the weights of these shapes, some of which may be stored one below the other.

    Args:
        stored: In the order of ``shapes``.
        shapes: Of all weights.

    Raises:
        IncompatibleArtifactError: They do not fit one another.
    """
    left = list(shapes)
    for weight in stored:
        rows: list[int] = []
        while left and sum(rows) < weight.shape[0] and left[0][1:] == weight.shape[1:]:
            rows.append(left.pop(0)[0])
        if not rows or sum(rows) != weight.shape[0]:
            raise IncompatibleArtifactError(
                f"expected the {len(shapes)} weights that the manifest lists; the model holds "
                f"others: one of the shape {list(weight.shape)}"
            )
        yield from weight.parts(rows) if len(rows) > 1 else [weight]
    if left:
        raise IncompatibleArtifactError(
            f"expected the {len(shapes)} weights that the manifest lists; the model lacks "
            f"{len(left)} of them"
        )


def _scales(
    model: Any, subgraph: Any, tensor: Any, data: memoryview
) -> npt.NDArray[np.float32] | None:
    if details := blockwise(tensor):
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
