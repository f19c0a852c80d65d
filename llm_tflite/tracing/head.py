"""Which weight makes the logits: the head, found by walking back from them."""

from __future__ import annotations

from collections.abc import Iterable

import tensorflow as tf
from tensorflow.python.framework import tensor_util

from .weight_views import WeightView

# What families do with the product of the head before they call it logits.
_ELEMENTWISE = {"Reshape", "Identity", "Cast", "BiasAdd", "AddV2", "Mul", "RealDiv", "Tanh"}


def find_head(logits: tf.Tensor, views: Iterable[WeightView]) -> str | None:
    """Return the name of the view whose product the logits are; None for an unknown form."""
    matrices = {view.matrix.op.name: view.name for view in views if view.matrix is not None}
    op = logits.op
    while op.type in _ELEMENTWISE:
        tensors = [t for t in op.inputs if tensor_util.constant_value(t) is None]
        op = tensors[0].op if tensors else op.inputs[0].op
    return matrices.get(op.inputs[1].op.name) if op.type == "MatMul" else None
