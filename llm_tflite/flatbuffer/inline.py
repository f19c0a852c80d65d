"""Put graphs in the place of the custom operations that stand for them in another model."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..errors import ConversionError
from .merge import Part
from .model import drop_unused_codes, operator_index, operator_name
from .weights import WeightSite


def inline(model: Any, bodies: Mapping[str, Part]) -> dict[str, list[WeightSite]]:
    """Replace every custom operation that is named in ``bodies`` by that graph.

    The operation's inputs are the body's first inputs and its outputs the body's outputs, in order.
    What else the body takes stays open: tensors without a producer, to be filled with weights.

    Args:
        model: A ``ModelT``, changed in place.
        bodies: One graph without loops for each name.

    Returns:
        Where each of the open inputs is, by its name.

    Raises:
        ConversionError: A body has branches, or is not used where it was expected.
    """
    sites: dict[str, list[WeightSite]] = {}
    used = set()
    for index, subgraph in enumerate(model.subgraphs):
        operators = []
        for operator in subgraph.operators:
            name = operator_name(model, operator)
            if name not in bodies:
                operators.append(operator)
                continue
            used.add(name)
            body, placed = _place(model, subgraph, operator, bodies[name])
            operators += body
            for weight, tensor in placed.items():
                sites.setdefault(weight, []).append(WeightSite(index, tensor))
        subgraph.operators = operators
    if used != set(bodies):
        raise ConversionError(f"expected the graph to use all of {sorted(bodies)}; {sorted(used)}")
    drop_unused_codes(model)
    return sites


def _place(
    model: Any, subgraph: Any, operator: Any, part: Part
) -> tuple[list[Any], dict[str, int]]:
    """Copy a graph into ``subgraph``; returns its operators and its inputs that stay open."""
    if len(part.model.subgraphs) != 1:
        raise ConversionError(f"expected {part.name} to be one graph without loops or branches")
    graph = part.model.subgraphs[0]
    count = len(operator.inputs)
    known = dict(zip(map(int, graph.inputs[:count]), map(int, operator.inputs), strict=True))
    known |= dict(zip(map(int, graph.outputs), map(int, operator.outputs), strict=True))
    for index, tensor in enumerate(graph.tensors):
        if index in known:
            continue
        added = copy.copy(tensor)
        model.buffers.append(part.model.buffers[tensor.buffer])
        added.buffer = len(model.buffers) - 1
        subgraph.tensors.append(added)
        known[index] = len(subgraph.tensors) - 1
    operators = []
    for source in graph.operators:
        added = copy.copy(source)
        code = part.model.operatorCodes[source.opcodeIndex]
        builtin = max(code.builtinCode, code.deprecatedBuiltinCode)
        added.opcodeIndex = operator_index(model, builtin, code.version)
        added.builtinOptions = copy.copy(source.builtinOptions)  # injection edits the options
        added.inputs = _renamed(source.inputs, known)
        added.outputs = _renamed(source.outputs, known)
        operators.append(added)
    names = part.inputs[count:]
    return operators, {
        name: known[int(at)] for name, at in zip(names, graph.inputs[count:], strict=True)
    }


def _renamed(indices: Any, known: Mapping[int, int]) -> Any:
    return np.array([known.get(int(i), int(i)) for i in indices], np.int32)  # -1: left out
