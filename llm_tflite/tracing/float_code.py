"""Let the code of any model compute in float32, on float32 weights and without adapters.

A file is traced from the model in this state and compared with it in this state, so that only
rounding may differ, whatever types the model has.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras

from .float_weights import FLOATS, float_weights, model_layers

_FLOAT32 = ("float32", "float32", None)


class _FloatScope(keras.StatelessScope):  # type: ignore[misc]
    """Answers with float32 where model code reads a variable that holds something else."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self._weights = {id(w.source): w for w in float_weights(model) if not w.is_plain}

    def get_current_value(self, variable: keras.Variable) -> Any:
        weight = self._weights.get(id(variable))
        return super().get_current_value(variable) if weight is None else weight.value


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
        with _FloatScope(model):
            yield
    finally:
        for layer, name, value in reversed(saved):
            object.__setattr__(layer, name, value)


def own_types(model: Any) -> dict[str, list[str]]:
    """What a model computes and keeps its weights in; empty where both are plain float32."""
    layers = model_layers(model)
    weights = {w.source.dtype for w in float_weights(model) if w.dtype == "float32"}
    if any(getattr(layer, "lora_enabled", False) for layer in layers):
        weights.add("lora")
    compute = {layer.compute_dtype for layer in layers} & set(FLOATS)
    types = {"compute": sorted(compute), "weights": sorted(weights)}
    return {} if types == {"compute": ["float32"], "weights": ["float32"]} else types


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
