"""Nodes of a GraphDef: what is known of their shapes, and how one becomes a constant."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf


def make_constant(node: Any, value: np.ndarray | np.generic) -> None:
    """Turn a node into a constant of the same name."""
    del node.input[:]
    node.attr.clear()
    node.op = "Const"
    node.attr["dtype"].type = tf.as_dtype(value.dtype).as_datatype_enum
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(value))


def static_shape(node: Any) -> list[int]:
    """The shape of a node's first output; empty where it is a scalar or not known.

    Args:
        node: One of a GraphDef that was made with ``add_shapes=True``.
    """
    shapes = node.attr["_output_shapes"].list.shape
    if not shapes or shapes[0].unknown_rank or any(dim.size < 0 for dim in shapes[0].dim):
        return []
    return [dim.size for dim in shapes[0].dim]
