"""Put models of one signature each together into one model of several signatures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from ..errors import ConversionError
from .model import operator_index


@dataclass(frozen=True)
class Part:
    """A model that becomes one signature.

    Attributes:
        name: The signature's name.
        model: A ``ModelT`` with one subgraph or, behind the first, those that it calls.
        inputs: Names of the first subgraph's inputs, in order.
        outputs: Names of its outputs, in order.
    """

    name: str
    model: Any
    inputs: list[str]
    outputs: list[str]


def merge(parts: list[Part]) -> Any:
    """Return a ``ModelT`` with every part's subgraphs, and a signature for each part."""
    merged = schema.ModelT()
    merged.version = 3
    merged.description = b"llm_tflite"
    merged.operatorCodes = []
    merged.subgraphs = []
    merged.signatureDefs = []
    merged.buffers = [schema.BufferT()]
    for part in parts:
        if len(part.model.subgraphs) != 1:
            raise ConversionError(
                f"expected {part.name} to be one graph without loops or branches; it has "
                f"{len(part.model.subgraphs)}"
            )
        graph = part.model.subgraphs[0]
        graph.name = part.name.encode()
        for operator in graph.operators:
            code = part.model.operatorCodes[operator.opcodeIndex]
            builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
            operator.opcodeIndex = operator_index(merged, builtin, code.version)
        for tensor in graph.tensors:
            merged.buffers.append(part.model.buffers[tensor.buffer])
            tensor.buffer = len(merged.buffers) - 1
        merged.subgraphs.append(graph)
        merged.signatureDefs.append(_signature(part, graph, len(merged.subgraphs) - 1))
    return merged


def _signature(part: Part, graph: Any, subgraph_index: int) -> Any:
    signature = schema.SignatureDefT()
    signature.signatureKey = part.name.encode()
    signature.subgraphIndex = subgraph_index
    signature.inputs = _entries(part.inputs, graph.inputs)
    signature.outputs = _entries(part.outputs, graph.outputs)
    return signature


def _entries(names: list[str], indices: Any) -> list[Any]:
    entries = []
    for name, index in zip(names, indices, strict=True):
        entry = schema.TensorMapT()
        entry.name = name.encode()
        entry.tensorIndex = int(index)
        entries.append(entry)
    return entries
