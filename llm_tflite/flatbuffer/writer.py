"""Stream a TFLite model to disk: weights as they come, the flatbuffer that describes them last."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..errors import ConversionError
from .model import pack

# Kernels read weights with vector instructions; 64 bytes is a cache line, the schema asks for 16.
_ALIGNMENT = 64
# Room for metadata entries that are added to the head later, in place.
_SLACK = 4096


class ModelWriter:
    """Writes a model as ``[flatbuffer, padded to head_capacity][weights]``.

    The weights stand outside the flatbuffer (``Buffer.offset`` and ``Buffer.size``, the schema's
    form for models over 2 GiB), so only one of them is in memory at a time, whatever the model's
    size.

    Args:
        stream: A seekable binary file, empty.
        head_capacity: Bytes kept for the flatbuffer, rounded up.
    """

    def __init__(self, stream: BinaryIO, head_capacity: int) -> None:
        self._stream = stream
        self._capacity = -(-(head_capacity + _SLACK) // 4096) * 4096
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
        return buffer

    def finish(self, model: Any) -> None:
        """Write the flatbuffer in the room kept for it."""
        head = pack(model)
        if len(head) + _SLACK > self._capacity:
            raise ConversionError(
                f"expected the model's description to fit in {self._capacity - _SLACK} bytes; it "
                f"takes {len(head)}: the quantizer gave more scales than rows"
            )
        self._stream.seek(0)
        self._stream.write(head)
        self._stream.seek(0, 2)
        self._stream.flush()
