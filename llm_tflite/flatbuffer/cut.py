"""Keep the part of a signature's graph that lies between given tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..errors import ConversionError
from .model import drop_unused_codes


def cut(model: Any, *, inputs: Mapping[str, int], outputs: Mapping[str, int], shown: int) -> None:
    """Give the only signature of a model other ends, and drop the operations outside of them.

    Args:
        model: A ``ModelT``, changed in place.
        inputs: The new inputs: tensors of the signature's graph, by name.
        outputs: The new outputs of the graph.
        shown: How many of the outputs the signature has, from the first.

    Raises:
        ConversionError: The outputs depend on something that lies before the inputs.
    """
    (signature,) = model.signatureDefs
    graph = model.subgraphs[signature.subgraphIndex]
    graph.operators = _needed(graph, set(inputs.values()), set(outputs.values()))
    graph.inputs = np.array(list(inputs.values()), np.int32)
    graph.outputs = np.array(list(outputs.values()), np.int32)
    signature.inputs = [_entry(*item) for item in inputs.items()]
    signature.outputs = [_entry(*item) for item in list(outputs.items())[:shown]]
    drop_unused_codes(model)


def _needed(graph: Any, given: set[int], wanted: set[int]) -> list[Any]:
    """The operations that make ``wanted`` of ``given`` and of constants."""
    kept = []
    for operator in reversed(graph.operators):  # they stand in the order in which they run
        made = {int(index) for index in operator.outputs} - given
        if made & wanted:
            kept.append(operator)
            wanted = wanted - made | {int(index) for index in operator.inputs if index >= 0}
    former = {int(index) for index in graph.inputs}
    if open_ends := wanted & former - given:
        raise ConversionError(f"expected no other inputs than {given}; found {open_ends}")
    return kept[::-1]


def _entry(name: str, tensor: int) -> Any:
    entry = schema.TensorMapT()
    entry.name = name.encode()
    entry.tensorIndex = tensor
    return entry
