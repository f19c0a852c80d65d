"""Stream a TFLite model to disk: weights as they come, the flatbuffer that describes them last."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..errors import ConversionError
from .model import pack

# Kernels read weights with vector instructions; 64 bytes is a cache line, the schema asks for 16.
_ALIGNMENT = 64
# The flatbuffer's room is a multiple of a memory page, so that weights keep their alignment.
_PAGE = 4096
_CHUNK = 1 << 20


class ModelWriter:
    """Writes a model as ``[flatbuffer, padded to a page][weights]``.

    The weights stand outside the flatbuffer (``Buffer.offset`` and ``Buffer.size``, the schema's
    form for models over 2 GiB), so only one of them is in memory at a time, whatever the model's
    size.

    Args:
        stream: A file that can be read, written and sought in, empty.
        head_capacity: The most that the flatbuffer may take, in bytes.
    """

    def __init__(self, stream: BinaryIO, head_capacity: int) -> None:
        self._stream = stream
        self._capacity = _pages(head_capacity)
        self._buffers: list[Any] = []
        stream.seek(self._capacity)

    def add(self, values: np.ndarray) -> Any:
        """Append an array and return the ``BufferT`` that refers to it."""
        start = self._stream.tell()
        begin = -(-start // _ALIGNMENT) * _ALIGNMENT
        self._stream.write(b"\0" * (begin - start))
        data = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        self._stream.write(data.data)
        buffer = schema.BufferT()
        buffer.offset = begin
        buffer.size = data.nbytes
        self._buffers.append(buffer)
        return buffer

    def finish(self, model: Any) -> None:
        """Write the flatbuffer in the room kept for it, and close the gap that is left."""
        needed = _pages(len(pack(model)))
        if needed > self._capacity:
            raise ConversionError(
                f"expected the model's description to fit in {self._capacity} bytes; it takes "
                f"{needed}: the quantizer gave more scales than rows"
            )
        gap = self._capacity - needed
        for buffer in self._buffers:
            buffer.offset -= gap
        self._move_weights(gap)
        self._stream.seek(0)
        # Offsets have a fixed width: moving the weights did not change the flatbuffer's length.
        self._stream.write(pack(model))
        self._stream.seek(0, 2)
        self._stream.flush()

    def _move_weights(self, gap: int) -> None:
        if not gap:
            return
        end = self._stream.seek(0, 2)
        for position in range(self._capacity, end, _CHUNK):
            self._stream.seek(position)
            chunk = self._stream.read(min(_CHUNK, end - position))
            self._stream.seek(position - gap)
            self._stream.write(chunk)
        self._stream.truncate(end - gap)


def _pages(size: int) -> int:
    return -(-size // _PAGE) * _PAGE
