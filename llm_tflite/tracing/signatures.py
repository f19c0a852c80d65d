"""Concrete functions ``prefill_{T}`` and ``decode`` of a model, with weights as arguments.

Names and shapes are those that LiteRT-LM's executor reads (``runtime/executor`` of
github.com/google-ai-edge/LiteRT-LM): ``tokens`` int32 ``[1, T]``, ``input_pos`` int32 ``[T]``, caches under
the same name in and out, ``logits`` float32 ``[1, 1, V]`` from ``decode`` alone. The mask is computed in
the graph, from ``input_pos[0]``, by the model's own code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import keras
import tensorflow as tf

from ..errors import UnsupportedModelError
from .cache_views import CacheViews
from .fold import fold
from .interception import intercept
from .mask_views import additive_masks
from .probe import CacheStructure
from .weight_views import Use, WeightView, WeightViews

# What is used as neither matrix nor table and is no larger than this stays a constant, for the
# converter to fuse: biases [heads, size], norm scales.
_CONSTANT_ELEMENTS = 65_536


@dataclass(frozen=True)
class WeightInput:
    """A variable that is an argument of the signatures.

    Attributes:
        name: The argument's name.
        variable: Where its values are.
        permutation: Axes of the variable that, reshaped to ``shape``, give the argument.
        shape: ``(out, in)``; the variable's own shape where ``uses`` is empty.
        uses: What the signatures do with it; empty for a table that is only sliced.
    """

    name: str
    variable: keras.Variable
    permutation: tuple[int, ...]
    shape: tuple[int, ...]
    uses: frozenset[Use]


@dataclass(frozen=True)
class Signatures:
    """Everything that conversion needs, and the weights to put in afterwards."""

    functions: dict[str, Any]
    weights: tuple[WeightInput, ...]
    captured: tuple[Any, ...]


def trace_signatures(
    model: Any, cache: CacheStructure, prefill_lengths: Sequence[int]
) -> Signatures:
    """Trace ``decode`` and one ``prefill_{T}`` for each length.

    Raises:
        UnsupportedModelError: The model's code cannot be traced with static shapes.
    """
    functions: dict[str, Any] = {}
    weights: dict[str, WeightInput] = {}
    captured: dict[int, Any] = {}
    for length in [1, *prefill_lengths]:
        name = f"prefill_{length}" if functions else "decode"
        trace = _Trace(model, cache, length, with_logits=not functions)
        functions[name] = trace.function()
        captured.update((id(tensor), tensor) for tensor in trace.captured)
        for weight in trace.weights:
            known = weights.get(weight.name, weight)
            if (known.permutation, known.shape) != (weight.permutation, weight.shape):
                raise UnsupportedModelError(
                    f"{weight.variable.path} is read as {known.shape} while decoding and as "
                    f"{weight.shape} in {name}; expected one form in every signature"
                )
            uses = known.uses | weight.uses
            weights[weight.name] = WeightInput(
                weight.name, weight.variable, weight.permutation, weight.shape, uses
            )
    return Signatures(functions, tuple(weights.values()), tuple(captured.values()))


class _Trace:
    """One signature: the model's code recorded through the views, rebuilt with weights as arguments."""

    def __init__(
        self, model: Any, cache: CacheStructure, length: int, *, with_logits: bool
    ) -> None:
        self._model = model
        self._cache = cache
        self._with_logits = with_logits
        self._specs = {
            "tokens": tf.TensorSpec([1, length], tf.int32, name="tokens"),
            "input_pos": tf.TensorSpec([length], tf.int32, name="input_pos"),
        }
        for tensor in cache.tensors:
            self._specs[tensor.name] = tf.TensorSpec(tensor.shape, cache.dtype, name=tensor.name)
        self.weights: list[WeightInput] = []
        self.captured: list[Any] = []

    def _record(self) -> tuple[Any, list[WeightView]]:
        """Run the model's code on symbolic tensors; returns the function and the weights' views."""
        views: list[WeightView] = []

        @tf.function(autograph=False)
        def recorded(**inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            caches = CacheViews()
            weights = WeightViews(
                (f"weight_{i}", variable)
                for i, variable in enumerate(self._model.variables)
                if len(variable.shape) >= 2
            )
            views[:] = weights.views
            with intercept(caches, weights), additive_masks(), weights.scope():
                logical = {t.name: caches.register(inputs[t.name], t) for t in self._cache.tensors}
                logits, _, cache = self._model.call_with_cache(
                    inputs["tokens"], self._cache.pack(logical), inputs["input_pos"][0]
                )
                updated = self._cache.unpack(cache)
                outputs = {
                    t.name: caches.stored(updated[t.name], t) for t in self._cache.tensors
                }
            if self._with_logits:
                outputs["logits"] = tf.cast(logits, tf.float32)
            return outputs

        return recorded.get_concrete_function(**self._specs), views

    def function(self) -> Any:
        """The signature as a concrete function of tokens, positions, caches and weights."""
        recorded, views = self._record()
        names = sorted(recorded.structured_outputs)
        outputs = [output.name for output in recorded.graph.outputs]
        graph = fold(recorded.graph.as_graph_def(add_shapes=True), outputs)
        used = {node.name for node in graph.node}

        sources: dict[str, Any] = {}
        specs = dict(self._specs)
        for view in views:
            for placeholder in (view.matrix, view.logical):
                if placeholder is None or placeholder.op.name not in used:
                    continue
                if placeholder is view.logical and prod(placeholder.shape) <= _CONSTANT_ELEMENTS:
                    sources[placeholder.name] = view.variable.value
                    self.captured.append(view.variable.value)
                    continue
                weight = _weight_input(view, placeholder)
                self.weights.append(weight)
                specs[weight.name] = tf.TensorSpec(weight.shape, tf.float32, name=weight.name)
                sources[placeholder.name] = weight.name
        captures = {
            inner.name: outer
            for outer, inner in recorded.graph.captures
            if inner.op.name in used
        }
        self.captured.extend(
            variable.value
            for variable in self._model.variables
            if any(outer is variable.value.handle for outer in captures.values())
        )

        @tf.function(autograph=False)
        def rebuilt(**arguments: tf.Tensor) -> dict[str, tf.Tensor]:
            feeds = {f"{name}:0": arguments[name] for name in self._specs if name in used}
            for placeholder, source in sources.items():
                feeds[placeholder] = (
                    arguments[source] if isinstance(source, str) else tf.identity(source)
                )
            for inner, outer in captures.items():
                feeds[inner] = tf.compat.v1.get_default_graph().capture(outer)
            results = tf.graph_util.import_graph_def(
                graph, input_map=feeds, return_elements=outputs, name=""
            )
            return dict(zip(names, results, strict=True))

        return rebuilt.get_concrete_function(**specs)


def _weight_input(view: WeightView, placeholder: tf.Tensor) -> WeightInput:
    if placeholder is view.matrix:
        shape = tuple(int(dim) for dim in placeholder.shape)
        return WeightInput(
            view.name, view.variable, view.permutation, shape, frozenset(view.uses)
        )
    axes = tuple(range(len(view.variable.shape)))
    return WeightInput(
        f"{view.name}_raw", view.variable, axes, tuple(view.variable.shape), frozenset()
    )
