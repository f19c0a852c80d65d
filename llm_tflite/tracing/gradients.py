"""Graphs that TensorFlow lets go, whatever gradients their operations have."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tensorflow.python.framework.ops import gradient_registry


@contextlib.contextmanager
def without_gradients(graph: tf.Graph) -> Iterator[tf.Graph]:
    """Make ``graph`` the default one, and unregister the gradients of its operations at the end.

    ``tf.custom_gradient`` registers one for each call of such a function (``tf.nn.silu`` is one)
    under a name of its own. TensorFlow keeps it for the life of the process, and with it every
    tensor of the graph. The graph cannot be differentiated afterwards.
    """
    try:
        with graph.as_default():
            yield graph
    finally:
        for operation in graph.get_operations():
            if operation.type == "IdentityN":
                name = operation.node_def.attr["_gradient_op_type"].s.decode()
                gradient_registry._registry.pop(name, None)
