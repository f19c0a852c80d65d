"""Let the code of any model compute in float32, on float32 weights and without adapters.

A file is traced from the model in this state and compared with it in this state, so that only
rounding may differ, whatever types the model has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from .float_weights import FLOATS, FloatScope, float_weights, model_layers
from .interception import intercept

Op = Callable[..., Any]

_FLOAT32 = ("float32", "float32", None)


class _FloatOps:
    """The ``keras.ops`` that must know that a variable holds something else than it reads as.

    Args:
        scope: What makes the values.
    """

    intercepted = ("einsum", "take", "transpose")

    def __init__(self, scope: FloatScope) -> None:
        self._scope = scope

    def einsum(self, original: Op, subscripts: str, *operands: Any, **kwargs: Any) -> Any:
        """Multiply values: Keras would ask packed integers for their shape."""
        values = [x.value if isinstance(x, keras.Variable) else x for x in operands]
        return original(subscripts, *values, **kwargs)

    def take(self, original: Op, x: Any, indices: Any, axis: int | None = None) -> Any:
        """Make float32 of the rows that are looked up, not of the table."""
        return self._cast_late(original, x, indices, axis=axis)

    def transpose(self, original: Op, x: Any, axes: Any = None) -> Any:
        """Make float32 of the transposed matrix, and not of both."""
        return self._cast_late(original, x, axes=axes)

    def _cast_late(self, original: Op, x: Any, *args: Any, **kwargs: Any) -> Any:
        if not (isinstance(x, keras.Variable) and self._scope.only_casts(x)):
            return original(x, *args, **kwargs)
        with keras.StatelessScope():  # where the variable reads as it is
            return tf.cast(original(x, *args, **kwargs), tf.float32)


@contextlib.contextmanager
def float_code(model: Any) -> Iterator[None]:
    """Make a model compute in float32 until the block ends.

    Each weight that is not float32 is made when it is read, and not kept. Not safe while another
    thread uses the model.
    """
    saved = []
    try:
        for layer in model_layers(model):
            for name, value in _replacements(layer).items():
                saved.append((layer, name, getattr(layer, name)))
                # Keras guards attributes of layers, and would quantize one that gets a policy.
                object.__setattr__(layer, name, value)
        scope = FloatScope(float_weights(model))
        with intercept(_FloatOps(scope)), scope:
            yield
    finally:
        for layer, name, value in reversed(saved):
            object.__setattr__(layer, name, value)


def own_types(model: Any) -> dict[str, list[str]]:
    """What a model computes and keeps its weights in; empty where both are plain float32."""
    layers = model_layers(model)
    weights = {w.stored_type for w in float_weights(model) if w.dtype == "float32"}
    if any(getattr(layer, "lora_enabled", False) for layer in layers):
        weights.add("lora")
    compute = {layer.compute_dtype for layer in layers} & set(FLOATS)
    types = {"compute": sorted(compute), "weights": sorted(weights)}
    return {} if types == {"compute": ["float32"], "weights": ["float32"]} else types


def has_rounded_constants(model: Any) -> bool:
    """Whether the functional model holds numbers that were rounded to its type when it was made.

    Gemma's scale of embeddings is one: 25.25 in bfloat16, where its code with a cache, run in
    float32, has 25.298.
    """
    graphs = [
        layer for layer in model_layers(model) if isinstance(layer, keras.src.models.Functional)
    ]
    nodes = [node for graph in graphs for op in graph.operations for node in op._inbound_nodes]
    constants = [x for n in nodes for x in tf.nest.flatten([n.arguments.args, n.arguments.kwargs])]
    return any(tf.is_tensor(x) and x.dtype in (tf.bfloat16, tf.float16) for x in constants)


def _replacements(layer: Any) -> dict[str, Any]:
    """Attributes of a layer that are in the way of float32, and what they shall be."""
    found: dict[str, Any] = {}
    types = (layer.compute_dtype, layer.variable_dtype, layer.quantization_mode)
    if types != _FLOAT32 and layer.compute_dtype in FLOATS:
        found["_dtype_policy"] = keras.DTypePolicy("float32")
    if getattr(layer, "lora_enabled", False):
        found["lora_enabled"] = False
    if getattr(layer, "reverse_dtype", None) is not None:
        found["reverse_dtype"] = None
    return found
