"""FlatBuffers tables of unknown files: every offset is checked before it is followed.

The generated readers trust their input, and a negative position silently counts from the end of
a Python buffer. Format: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

from typing import BinaryIO

from llm_tflite.errors import CorruptArtifactError

# Tables may share what they refer to, so a small file can claim to hold far more than it does. The
# description of GPT-2 XL with six signatures takes some 20 MB to read.
_MAX_READ_BYTES = 256 << 20


class FlatBuffer:
    """A part of a stream as one FlatBuffer; positions count from where it begins."""

    def __init__(self, stream: BinaryIO, begin: int, end: int) -> None:
        """Read the bytes ``begin`` to ``end`` of ``stream``, as they are needed."""
        self._stream = stream
        self._begin = begin
        self._size = end - begin
        self._read_bytes = 0

    def root(self) -> FlatTable:
        """Return the root table."""
        return FlatTable(self, self.number(0, 4))

    def read(self, position: int, size: int) -> bytes:
        """Return ``size`` bytes at ``position``."""
        if not 0 <= position <= position + size <= self._size:
            raise CorruptArtifactError(
                f"a table refers to byte {position + size:,} of {self._size:,}: altered or cut"
            )
        self._read_bytes += size
        if self._read_bytes > _MAX_READ_BYTES:
            raise CorruptArtifactError("the tables of this file refer to the same bytes for ever")
        self._stream.seek(self._begin + position)
        data = self._stream.read(size)
        if len(data) != size:
            raise CorruptArtifactError("the file ends in the middle of a table")
        return data

    def number(self, position: int, size: int) -> int:
        """Return the unsigned number of ``size`` bytes at ``position``."""
        return int.from_bytes(self.read(position, size), "little")


class FlatTable:
    """One table; fields are asked for by their number in the schema.

    Attributes:
        start: Where it stands.
    """

    def __init__(self, buffer: FlatBuffer, position: int) -> None:
        """Read the table that stands at ``position``."""
        self._buffer = buffer
        self.start = position
        back = int.from_bytes(buffer.read(position, 4), "little", signed=True)
        self._vtable = position - back
        self._vtable_size = buffer.number(self._vtable, 2)

    def position(self, field: int) -> int | None:
        """Where the field stands, or None where it has its default."""
        entry = 4 + 2 * field
        if entry + 2 > self._vtable_size:
            return None
        offset = self._buffer.number(self._vtable + entry, 2)
        return self.start + offset if offset else None

    def number(self, field: int, size: int) -> int:
        """Return an unsigned number of ``size`` bytes."""
        at = self.position(field)
        return 0 if at is None else self._buffer.number(at, size)

    def table(self, field: int) -> FlatTable | None:
        """Return the table that the field refers to."""
        at = self.target(field)
        return None if at is None else FlatTable(self._buffer, at)

    def text(self, field: int) -> str:
        """Return a string; an absent one is empty."""
        at = self.target(field)
        if at is None:
            return ""
        data = self._buffer.read(at + 4, self._buffer.number(at, 4))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError as e:
            raise CorruptArtifactError(f"a name is not UTF-8: {data[:40]!r}") from e

    def count(self, field: int) -> int:
        """Return the length of a vector; an absent one is empty."""
        at = self.target(field)
        return 0 if at is None else self._buffer.number(at, 4)

    def item(self, field: int, index: int) -> FlatTable:
        """Return one table of a vector of tables."""
        at = self.target(field)
        if at is None or index >= self._buffer.number(at, 4):
            raise CorruptArtifactError(f"a table refers to item {index} of a shorter list")
        entry = at + 4 + 4 * index
        return FlatTable(self._buffer, entry + self._buffer.number(entry, 4))

    def items(self, field: int, limit: int) -> list[FlatTable]:
        """Return all tables of a vector, which may be at most ``limit`` long."""
        if (count := self.count(field)) > limit:
            raise CorruptArtifactError(f"expected at most {limit} tables in a list; got {count:,}")
        return [self.item(field, index) for index in range(count)]

    def target(self, field: int) -> int | None:
        """Where that stands which the field refers to, or None where it has its default."""
        at = self.position(field)
        return None if at is None else at + self._buffer.number(at, 4)
