"""What a TFLite model consists of, read from a file that nobody vouches for.

Weights stay on disk. Field numbers are those of ``tflite/schema.fbs`` of
github.com/google-ai-edge/LiteRT; the schema's classes are used for names only, as they trust their
input.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import BinaryIO, TypeVar

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from llm_tflite.errors import CorruptArtifactError

from .flat_tables import FlatBuffer, FlatTable
from .tflite_metadata import FILE_IDENTIFIER

# Tables may refer to one another in loops and bushes, so a small file can claim to be very large.
# GPT-2 XL with five signatures has about 30,000 tables. Text counts too, 64 bytes as one table.
_MAX_TABLES = 500_000
_TEXT_BYTES_PER_TABLE = 64
_MAX_SIGNATURES = _MAX_OPERATOR_CODES = 4096
_MAX_GRAPHS = _MAX_ENDS = 4096
_MAX_RANK = 32

_SCHEMA_VERSION = 3
_MODEL_VERSION, _MODEL_CODES, _MODEL_GRAPHS, _MODEL_BUFFERS, _MODEL_SIGNATURES = 0, 1, 2, 4, 7
_CODE_OLD_BUILTIN, _CODE_CUSTOM, _CODE_VERSION, _CODE_BUILTIN = 0, 1, 2, 3
_GRAPH_TENSORS, _GRAPH_INPUTS, _GRAPH_OUTPUTS, _GRAPH_OPERATORS = 0, 1, 2, 3
_OPERATOR_CODE, _OPERATOR_OPTIONS = 0, 4
_TENSOR_SHAPE, _TENSOR_TYPE, _TENSOR_BUFFER, _TENSOR_NAME = 0, 1, 2, 3
_TENSOR_QUANTIZATION, _TENSOR_DYNAMIC_SHAPE = 4, 7
_QUANTIZATION_SCALE, _QUANTIZATION_ZERO_POINT = 2, 3
_QUANTIZATION_DETAILS_TYPE, _QUANTIZATION_DETAILS = 4, 5
_BLOCKWISE_SCALES = 0
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2
_SIGNATURE_INPUTS, _SIGNATURE_OUTPUTS, _SIGNATURE_NAME, _SIGNATURE_GRAPH = 0, 1, 2, 4
_ENTRY_NAME, _ENTRY_TENSOR = 0, 1


def _names(enumeration: type) -> dict[int, str]:
    return {code: name for name, code in vars(enumeration).items() if isinstance(code, int)}


_OPERATORS = _names(schema.BuiltinOperator)
_TYPES = {code: name.lower() for code, name in _names(schema.TensorType).items()}
# Operations that run other graphs, and the fields of their options that say which.
_CALLS = {"WHILE": (0, 1), "IF": (0, 1), "CALL_ONCE": (0,)}

_T = TypeVar("_T")


@dataclass(frozen=True)
class TensorInfo:
    """An input or output; -1 in a shape is a dimension that the caller chooses."""

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class SignatureInfo:
    """One entry point of a model.

    Attributes:
        name: How a runtime calls it; None for the only graph of a model without signatures.
        inputs: What it takes.
        outputs: What it gives.
        operators: How often each builtin operation stands in it, loops and branches included.
        custom_operators: The same for operations that a runtime needs an extension for; those
            that begin with ``Flex`` are TensorFlow's.
    """

    name: str | None
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    operators: Mapping[str, int]
    custom_operators: Mapping[str, int]


@dataclass(frozen=True)
class StorageInfo:
    """The constants of one type, each stored array counted once however many tensors use it."""

    dtype: str
    arrays: int
    values: int
    bytes: int


@dataclass(frozen=True)
class ModelInfo:
    """One TFLite model.

    Attributes:
        signatures: Its entry points.
        storage: Its constants by type, those that take the most bytes first.
        scale_bytes: Bytes of the quantization scales and zero points of these constants.
        operator_versions: The latest version of each builtin operation that it lists; an older
            runtime does not have it.
    """

    signatures: tuple[SignatureInfo, ...]
    storage: tuple[StorageInfo, ...]
    scale_bytes: int
    operator_versions: Mapping[str, int]


def read_model(stream: BinaryIO, begin: int, end: int) -> ModelInfo:
    """Describe the model that stands from ``begin`` to ``end`` of a stream.

    Raises:
        CorruptArtifactError: It is not a TFLite model, or it was cut or altered.
    """
    reader = _ModelReader(stream, begin, end)
    storage, scale_bytes = reader.storage()
    versions = reader.operator_versions()
    return ModelInfo(tuple(reader.signatures()), storage, scale_bytes, versions)


def read_custom_operations(stream: BinaryIO, begin: int, end: int) -> tuple[str, ...]:
    """Return the names of all custom operations in a model, in any of its graphs.

    Raises:
        CorruptArtifactError: It is not a TFLite model, or it was cut or altered.
    """
    return _ModelReader(stream, begin, end).custom_operations()


@dataclass(frozen=True)
class _Graph:
    tensors: list[FlatTable]
    builtin: Counter[str] = field(default_factory=Counter)
    custom: Counter[str] = field(default_factory=Counter)
    calls: set[int] = field(default_factory=set)


class _ModelReader:
    """Follows the tables of one model, within bounds."""

    def __init__(self, stream: BinaryIO, begin: int, end: int) -> None:
        self._flat = FlatBuffer(stream, begin, end)
        self._size = end - begin
        self._tables_left = _MAX_TABLES
        if self._flat.read(4, 4) != FILE_IDENTIFIER:
            raise CorruptArtifactError("expected a TFLite model; it does not begin like one")
        self._model = self._flat.root()
        if (version := self._model.number(_MODEL_VERSION, 4)) != _SCHEMA_VERSION:
            raise CorruptArtifactError(f"expected version {_SCHEMA_VERSION}; it has {version}")
        codes = self._tables(self._model, _MODEL_CODES, _MAX_OPERATOR_CODES)
        self._codes = [self._code(table) for table in codes]
        # Fields that have their default value, 1, are not stored.
        self._versions = [
            table.number(_CODE_VERSION, 4) if table.position(_CODE_VERSION) else 1
            for table in codes
        ]
        buffers = self._tables(self._model, _MODEL_BUFFERS)
        self._buffer_bytes = [self._stored_bytes(table) for table in buffers]
        self._graph_tables = self._tables(self._model, _MODEL_GRAPHS, _MAX_GRAPHS)
        if not self._graph_tables:
            raise CorruptArtifactError("the model has no graph")

    @cached_property
    def _graphs(self) -> list[_Graph]:
        return [self._graph(table) for table in self._graph_tables]

    def signatures(self) -> Iterator[SignatureInfo]:
        tables = self._tables(self._model, _MODEL_SIGNATURES, _MAX_SIGNATURES)
        for table in tables:
            index = table.number(_SIGNATURE_GRAPH, 4)
            graph = _pick(self._graphs, index, "graph")
            yield self._signature(
                self._text(table, _SIGNATURE_NAME),
                index,
                self._entries(table, _SIGNATURE_INPUTS, graph),
                self._entries(table, _SIGNATURE_OUTPUTS, graph),
            )
        if not tables:
            inputs, outputs = (
                tuple(
                    self._tensor(self._graphs[0], index, None)
                    for index in self._integers(self._graph_tables[0], number, _MAX_ENDS)
                )
                for number in (_GRAPH_INPUTS, _GRAPH_OUTPUTS)
            )
            yield self._signature(None, 0, inputs, outputs)

    def custom_operations(self) -> tuple[str, ...]:
        if not any(custom for _, custom in self._codes):  # as usual: no need to walk the graphs
            return ()
        return tuple(sorted({name for graph in self._graphs for name in graph.custom}))

    def operator_versions(self) -> dict[str, int]:
        versions: dict[str, int] = {}
        for (name, custom), version in zip(self._codes, self._versions, strict=True):
            if not custom:
                versions[name] = max(version, versions.get(name, version))
        return dict(sorted(versions.items()))

    def storage(self) -> tuple[tuple[StorageInfo, ...], int]:
        dtypes: dict[int, str] = {}
        scale_buffers: set[int] = set()
        scale_vectors: dict[int, int] = {}
        for graph in self._graphs:
            for tensor in graph.tensors:
                buffer = tensor.number(_TENSOR_BUFFER, 4)
                if not _pick(self._buffer_bytes, buffer, "buffer"):
                    continue  # a tensor that is computed
                dtypes.setdefault(buffer, _dtype(tensor))
                if quantization := tensor.table(_TENSOR_QUANTIZATION):
                    scale_vectors.update(self._scale_vectors(quantization))
                    scale_buffers.update(self._scale_buffers(quantization, graph))
        scale_bytes = sum(scale_vectors.values())
        scale_bytes += sum(self._buffer_bytes[buffer] for buffer in scale_buffers)
        arrays: dict[str, list[int]] = {}
        for buffer, dtype in dtypes.items():
            if buffer not in scale_buffers:
                arrays.setdefault(dtype, []).append(self._buffer_bytes[buffer])
        storage = [
            StorageInfo(dtype, len(sizes), 8 * sum(sizes) // _bits(dtype), sum(sizes))
            for dtype, sizes in arrays.items()
        ]
        return tuple(sorted(storage, key=lambda s: (-s.bytes, s.dtype))), scale_bytes

    def _scale_vectors(self, quantization: FlatTable) -> Iterator[tuple[int, int]]:
        """Where scales stand in the flatbuffer, one or one per row, and their size."""
        for number, width in ((_QUANTIZATION_SCALE, 4), (_QUANTIZATION_ZERO_POINT, 8)):
            start, count = self._vector(quantization, number, width)
            yield start, count * width

    def _scale_buffers(self, quantization: FlatTable, graph: _Graph) -> Iterator[int]:
        """The buffer of the tensor that holds one scale for each block."""
        kind = quantization.number(_QUANTIZATION_DETAILS_TYPE, 1)
        details = quantization.table(_QUANTIZATION_DETAILS)
        if details and kind == schema.QuantizationDetails.BlockwiseQuantization:
            scales = _pick(graph.tensors, details.number(_BLOCKWISE_SCALES, 4), "tensor")
            buffer = scales.number(_TENSOR_BUFFER, 4)
            _pick(self._buffer_bytes, buffer, "buffer")
            yield buffer

    def _signature(
        self,
        name: str | None,
        graph: int,
        inputs: tuple[TensorInfo, ...],
        outputs: tuple[TensorInfo, ...],
    ) -> SignatureInfo:
        builtin: Counter[str] = Counter()
        custom: Counter[str] = Counter()
        waiting, seen = [graph], {graph}
        while waiting:
            current = _pick(self._graphs, waiting.pop(), "graph")
            builtin += current.builtin
            custom += current.custom
            waiting += current.calls - seen
            seen |= current.calls
        return SignatureInfo(name, inputs, outputs, _by_count(builtin), _by_count(custom))

    def _code(self, table: FlatTable) -> tuple[str, bool]:
        """Name of an operation, and whether it is a custom one."""
        # Models from before 2020 keep the code in a field of one byte.
        code = max(table.number(_CODE_BUILTIN, 4), table.number(_CODE_OLD_BUILTIN, 1))
        if code == schema.BuiltinOperator.CUSTOM:
            return self._text(table, _CODE_CUSTOM), True
        return _OPERATORS.get(code, f"BUILTIN_{code}"), False

    def _graph(self, table: FlatTable) -> _Graph:
        graph = _Graph(self._tables(table, _GRAPH_TENSORS))
        for operator in self._tables(table, _GRAPH_OPERATORS):
            name, custom = _pick(self._codes, operator.number(_OPERATOR_CODE, 4), "operation")
            (graph.custom if custom else graph.builtin)[name] += 1
            if not custom and (options := operator.table(_OPERATOR_OPTIONS)):
                graph.calls.update(options.number(n, 4) for n in _CALLS.get(name, ()))
        return graph

    def _entries(self, table: FlatTable, number: int, graph: _Graph) -> tuple[TensorInfo, ...]:
        return tuple(
            self._tensor(graph, entry.number(_ENTRY_TENSOR, 4), self._text(entry, _ENTRY_NAME))
            for entry in self._tables(table, number)
        )

    def _tensor(self, graph: _Graph, index: int, name: str | None) -> TensorInfo:
        table = _pick(graph.tensors, index, "tensor")
        shape = self._integers(table, _TENSOR_DYNAMIC_SHAPE, _MAX_RANK)
        shape = shape or self._integers(table, _TENSOR_SHAPE, _MAX_RANK)
        name = self._text(table, _TENSOR_NAME) if name is None else name
        return TensorInfo(name, tuple(shape), _dtype(table))

    def _stored_bytes(self, buffer: FlatTable) -> int:
        offset, size = buffer.number(_BUFFER_OFFSET, 8), buffer.number(_BUFFER_SIZE, 8)
        if offset <= 1:  # "only valid if > 1": the buffer is inside the flatbuffer
            return self._vector(buffer, _BUFFER_DATA, 1)[1]
        if offset + size > self._size:
            raise CorruptArtifactError(
                f"a buffer ends at byte {offset + size:,} of {self._size:,}: altered or cut"
            )
        return size

    def _tables(self, table: FlatTable, number: int, limit: int = _MAX_TABLES) -> list[FlatTable]:
        self._spend(table.count(number))
        return table.items(number, limit)

    def _text(self, table: FlatTable, number: int) -> str:
        self._spend(table.count(number) // _TEXT_BYTES_PER_TABLE)
        return table.text(number)

    def _spend(self, tables: int) -> None:
        self._tables_left -= tables
        if self._tables_left < 0:
            raise CorruptArtifactError(f"expected at most {_MAX_TABLES:,} tables; there are more")

    def _integers(self, table: FlatTable, number: int, limit: int) -> list[int]:
        start, count = self._vector(table, number, 4)
        if count > limit:
            raise CorruptArtifactError(f"expected a list of at most {limit}; it has {count:,}")
        integers: list[int] = np.frombuffer(self._flat.read(start, 4 * count), "<i4").tolist()
        return integers

    def _vector(self, table: FlatTable, number: int, width: int) -> tuple[int, int]:
        """Where a vector begins and how long it is, without reading it."""
        at = table.position(number)
        if at is None:
            return 0, 0
        start = at + self._flat.number(at, 4) + 4
        count = self._flat.number(start - 4, 4)
        if start + count * width > self._size:
            raise CorruptArtifactError("a list is longer than the file: altered or cut")
        return start, count


def _pick(items: list[_T], index: int, what: str) -> _T:
    if not 0 <= index < len(items):
        raise CorruptArtifactError(f"expected a {what} below {len(items)}; a table names {index}")
    return items[index]


def _dtype(tensor: FlatTable) -> str:
    code = tensor.number(_TENSOR_TYPE, 1)
    return _TYPES.get(code, f"type{code}")


def _bits(dtype: str) -> int:
    found = re.search(r"\d+", dtype)
    return int(found[0]) if found and dtype in _TYPES.values() else 8


def _by_count(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
