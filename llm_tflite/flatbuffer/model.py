"""A TFLite model as editable objects, on the schema classes that ai-edge-litert ships.

Format: ``tflite/schema.fbs`` of github.com/google-ai-edge/LiteRT.
"""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

FILE_IDENTIFIER = b"TFL3"

_OPERATOR_NAMES = {
    code: name for name, code in vars(schema.BuiltinOperator).items() if isinstance(code, int)
}


def parse(data: bytes | memoryview | mmap.mmap) -> Any:
    """Return the ``ModelT`` of a TFLite flatbuffer."""
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))


def pack(model: Any) -> bytes:
    """Serialise a ``ModelT``; quantization shared between tensors is written once."""
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
    return bytes(builder.Output())


def embed_buffers(model: Any, data: bytes) -> None:
    """Bring the constants that lie behind the flatbuffer in ``data`` into the ``ModelT``."""
    for buffer in model.buffers:
        if buffer.offset > 1:  # 0 and 1 mean that there is none
            content = data[buffer.offset : buffer.offset + buffer.size]
            buffer.data, buffer.offset, buffer.size = np.frombuffer(content, np.uint8), 0, 0


def holds_strings(tensor: Any) -> bool:
    """Whether a tensor is one of strings."""
    return bool(tensor.type == schema.TensorType.STRING)


def operator_code(model: Any, operator: Any) -> int:
    """The builtin code of an operator; models before 2020 keep small codes in a second field."""
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def operator_name(model: Any, operator: Any) -> str:
    """``FULLY_CONNECTED`` and the like; the custom name of a custom operation."""
    code = operator_code(model, operator)
    if code == schema.BuiltinOperator.CUSTOM:
        return str(model.operatorCodes[operator.opcodeIndex].customCode.decode())
    return str(_OPERATOR_NAMES.get(code, f"BUILTIN_{code}"))


def operator_index(model: Any, builtin: int, version: int) -> int:
    """Index of the operator code with at least this version, added where missing."""
    for i, code in enumerate(model.operatorCodes):
        if max(code.builtinCode, code.deprecatedBuiltinCode) == builtin:
            code.version = max(code.version, version)
            return i
    code = schema.OperatorCodeT()
    code.builtinCode = builtin
    code.deprecatedBuiltinCode = min(builtin, 127)
    code.version = version
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def new_operator(
    model: Any, builtin: int, version: int, inputs: Sequence[int], outputs: Sequence[int]
) -> Any:
    """Return an operation without options, which the caller puts where it belongs."""
    operator = schema.OperatorT()
    operator.opcodeIndex = operator_index(model, builtin, version)
    operator.inputs = np.array(inputs, np.int32)
    operator.outputs = np.array(outputs, np.int32)
    return operator


def copy_tensor(subgraph: Any, at: int, suffix: bytes, dtype: int, quantization: Any = None) -> int:
    """Add a tensor of another type and the same shape; returns its index."""
    source = subgraph.tensors[at]
    tensor = schema.TensorT()
    tensor.name = source.name + suffix
    tensor.type = dtype
    tensor.shape = source.shape
    tensor.hasRank = source.hasRank
    tensor.quantization = quantization
    subgraph.tensors.append(tensor)
    return len(subgraph.tensors) - 1


def drop_unused_codes(model: Any) -> None:
    """A runtime looks up every code of a model, also those that no operation has."""
    used = sorted({o.opcodeIndex for graph in model.subgraphs for o in graph.operators})
    for graph in model.subgraphs:
        for operator in graph.operators:
            operator.opcodeIndex = used.index(operator.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[i] for i in used]


def blockwise(tensor: Any) -> Any:
    """Where the scales of a tensor's blocks are; None for one without blocks."""
    quantization = tensor.quantization
    kind = schema.QuantizationDetails.BlockwiseQuantization
    return quantization.details if quantization and quantization.detailsType == kind else None


def drop_unused_tensors(model: Any) -> None:
    """Take out of every graph the tensors that no operation reads or makes."""
    for index, graph in enumerate(model.subgraphs):
        signatures = [s for s in model.signatureDefs or [] if s.subgraphIndex == index]
        entries = [entry for s in signatures for entry in (*s.inputs, *s.outputs)]
        lists = [graph.inputs, graph.outputs]
        lists += [ends for o in graph.operators for ends in (o.inputs, o.outputs)]
        used = {int(tensor) for ends in lists for tensor in ends if tensor >= 0}
        used |= {entry.tensorIndex for entry in entries}
        scales = {tensor: blockwise(graph.tensors[tensor]) for tensor in used}
        used |= {details.scales for details in scales.values() if details}
        kept = sorted(used)
        places = np.full(len(graph.tensors), -1, np.int32)
        places[kept] = np.arange(len(kept))

        def moved(ends: Any, places: Any = places) -> Any:
            return np.array([places[end] if end >= 0 else end for end in ends], np.int32)

        graph.inputs, graph.outputs = moved(graph.inputs), moved(graph.outputs)
        for operator in graph.operators:
            operator.inputs, operator.outputs = moved(operator.inputs), moved(operator.outputs)
        for entry in entries:
            entry.tensorIndex = int(places[entry.tensorIndex])
        for details in scales.values():
            if details:
                details.scales = int(places[details.scales])
        graph.tensors = [graph.tensors[tensor] for tensor in kept]


class SharedQuantization(schema.QuantizationParametersT):  # type: ignore[misc]
    """Quantization parameters that several tensors refer to and the file holds once.

    A flatbuffer may point to one table from many places; the generated code would repeat the scales
    of a matrix for every signature that reads it.
    """

    def __init__(self) -> None:
        super().__init__()
        self._packed: tuple[Any, int] | None = None

    def Pack(self, builder: Any) -> int:  # noqa: N802 - the generated classes call it so
        """Write the table, or point to where this builder already has it."""
        if self._packed is None or self._packed[0] is not builder:
            self._packed = (builder, super().Pack(builder))
        return self._packed[1]


def share_buffers(model: Any) -> None:
    """Point tensors with equal constants at one buffer and drop what nothing uses."""
    kept = [model.buffers[0]]
    indices: dict[bytes, int] = {}
    remap: dict[int, int] = {0: 0}

    def index_of(old: int) -> int:
        if old not in remap:
            buffer = model.buffers[old]
            content = b"" if buffer.data is None else bytes(buffer.data)
            # Buffers outside the flatbuffer have an offset and no content; each was stored once.
            if content and content in indices:
                remap[old] = indices[content]
            else:
                kept.append(buffer)
                remap[old] = len(kept) - 1
                if content:
                    indices[content] = remap[old]
        return remap[old]

    for subgraph in model.subgraphs:
        for tensor in subgraph.tensors:
            tensor.buffer = index_of(tensor.buffer)
    for entry in model.metadata or []:
        entry.buffer = index_of(entry.buffer)
    model.buffers = kept
