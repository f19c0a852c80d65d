"""Loops that Python unrolled while tracing leave lists of tensors: one Pack says the same."""

from __future__ import annotations

from typing import Any

from tensorflow.python.framework import tensor_util


def pack_lists(graph: Any) -> None:
    """A ``tf.TensorArray`` written at constant places and stacked becomes a Pack.

    TFLite has no lists of tensors, and its converter fails on those outside of loops. A list with a
    place that is not constant, or that was never written, is left for the converter to refuse.

    Args:
        graph: A ``tf.compat.v1.GraphDef``; it is changed in place.
    """
    nodes = {node.name: node for node in graph.node}
    for node in graph.node:
        if node.op != "TensorListStack":
            continue
        elements = _elements(node, nodes)
        if elements is None:
            continue
        node.op = "Pack"
        node.input[:] = elements
        dtype = node.attr["element_dtype"].type
        for name in ("element_dtype", "num_elements"):
            node.attr.pop(name, None)
        node.attr["T"].type = dtype
        node.attr["N"].i = len(elements)
        node.attr["axis"].i = 0


def _elements(stack: Any, nodes: dict[str, Any]) -> list[str] | None:
    """Names of the tensors that a list holds, in order, or None for a list of another kind."""
    written: dict[int, str] = {}
    node = _producer(stack.input[0], nodes)
    while node.op == "TensorListSetItem":
        index = _constant(node.input[1], nodes)
        if index is None:
            return None
        written.setdefault(index, node.input[2])  # the last write is met first
        node = _producer(node.input[0], nodes)
    count = _constant(node.input[1], nodes) if node.op == "TensorListReserve" else None
    if not count or set(written) != set(range(count)):
        return None
    return [written[index] for index in range(count)]


def _producer(name: str, nodes: dict[str, Any]) -> Any:
    node = nodes[name.split(":")[0]]
    while node.op == "Identity":
        node = nodes[node.input[0].split(":")[0]]
    return node


def _constant(name: str, nodes: dict[str, Any]) -> int | None:
    node = _producer(name, nodes)
    return int(tensor_util.MakeNdarray(node.attr["value"].tensor)) if node.op == "Const" else None
