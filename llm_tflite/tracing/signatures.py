"""Record the signatures ``prefill_{T}`` and ``decode`` of a model, with weights as inputs.

Names and shapes are those that LiteRT-LM's executor reads (``runtime/executor`` of
github.com/google-ai-edge/LiteRT-LM): ``tokens`` int32 ``[1, T]``, ``input_pos`` int32 ``[T]``,
caches under the same name in and out, ``logits`` float32 ``[1, 1, V]`` from ``decode``. Graphs with
short caches, which that executor does not know, give logits from ``prefill_{T}`` as well, those
of the token at ``logits_row`` int32 ``[1]``. The mask is computed in the graph, from
``input_pos[0]``, by the model's own code. So is the beginning of a text, where states are zeros
whatever is given: that executor does not clear them. A model that reads a prompt in both directions
sees in ``input_pos`` where the prompt ends: the positions of pads are 0.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ..errors import UnsupportedModelError
from ..signature_names import Variant, signature_name
from .cache_views import CacheViews, source
from .cached_call import cached_call
from .cached_paths import cached_paths
from .float_weights import FloatWeight, float_weights
from .fold import fold
from .gradients import without_gradients
from .graph_nodes import make_constant
from .head import find_head
from .interception import intercept
from .mask_views import WipedRows, additive_masks
from .norm_views import NormViews
from .prefix import prefix_mask
from .probe import Cache, CacheTensor
from .states import StateTensor
from .weight_views import Use, WeightView, WeightViews
from .window_views import WindowViews

# What is used as neither matrix nor table and is no larger than this stays a constant, for the
# converter to fuse: biases [heads, size], norm scales.
_CONSTANT_ELEMENTS = 65_536


@dataclass(frozen=True)
class WeightInput:
    """A variable that is an input of the signatures.

    Attributes:
        name: The input's name.
        variable: Where its values are.
        permutation: Axes of the variable that, reshaped to ``shape``, give the input.
        shape: ``(out, in)``; the variable's own shape where ``uses`` is empty.
        uses: What the signatures do with it; empty for a table that is read as it is.
    """

    name: str
    variable: FloatWeight
    permutation: tuple[int, ...]
    shape: tuple[int, ...]
    uses: frozenset[Use]

    def values(self) -> npt.NDArray[np.float32]:
        """The values, in the form of the input."""
        values = self.variable.numpy()
        if values.ndim != len(self.shape) or self.permutation != tuple(range(values.ndim)):
            values = np.ascontiguousarray(np.transpose(values, self.permutation))
        return values.reshape(self.shape)


@dataclass(frozen=True)
class Signature:
    """One recorded function.

    Attributes:
        name: Under which callers find it.
        graph: A GraphDef without variables.
        inputs: Its placeholders, by the signature's names.
        outputs: Its results, by the signature's names.
    """

    name: str
    graph: Any
    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]


class WeightInputs:
    """The weights that signatures take, merged over all of them."""

    def __init__(self) -> None:
        """Begin with none."""
        self._weights: dict[str, WeightInput] = {}

    def __iter__(self) -> Iterator[WeightInput]:
        """The weights, in the order in which they were first read."""
        return iter(self._weights.values())

    def add(self, signature: str, weight: WeightInput) -> None:
        """Note that a signature reads a weight.

        Raises:
            UnsupportedModelError: An earlier one reads it in another form.
        """
        known = self._weights.get(weight.name, weight)
        if (known.permutation, known.shape) != (weight.permutation, weight.shape):
            raise UnsupportedModelError(
                f"{weight.variable.path} is read as {known.shape} elsewhere and as {weight.shape} "
                f"in {signature}; expected one form in every signature"
            )
        self._weights[weight.name] = replace(weight, uses=known.uses | weight.uses)


def trace_signatures(
    model: Any,
    cache: Cache,
    variants: Iterable[Variant],
    weights: WeightInputs,
) -> Iterator[Signature]:
    """Trace one signature after the other, so that only one of them is in memory.

    Args:
        model: The Keras model.
        cache: Its cache for the whole context.
        variants: Length and slots of each, the one that decodes first. Attention costs what is
            allocated, used or not (GPT-2 124M: 21 ms per token with 1024 slots, 14 ms with 128).
        weights: The weights that they take are added here.

    Raises:
        UnsupportedModelError: The model reads a weight in different forms in different signatures.
    """
    head: str | None = None
    whole = cache.slots if cache.prefix_prefill else None
    for length, slots in variants:
        name = signature_name(length, slots, exact=cache.exact_prefill, whole=whole)
        sized = cache.with_slots(slots) if slots else cache
        recorded = record(
            model, sized, length or 1, logits=length is None or slots is not None, head=head
        )
        if length is None:
            head = find_head(recorded.outputs["logits"], recorded.views)
        signature, read = lifted(name, recorded)
        for weight in read:
            weights.add(name, weight)
        yield signature


@dataclass(frozen=True)
class Recording:
    """What a model's code did with symbolic tensors.

    Attributes:
        inputs: Placeholders by the signature's names, without weights.
        outputs: Results by the signature's names.
        views: The variables that it could read.
        written: Heads and head size that it writes to at most, by the cache's name.
    """

    inputs: dict[str, tf.Tensor]
    outputs: dict[str, tf.Tensor]
    views: list[WeightView]
    written: dict[str, tuple[int, int]] = field(default_factory=dict)


def lifted(name: str, recorded: Recording) -> tuple[Signature, list[WeightInput]]:
    """Make inputs of large weights and constants of small ones."""
    inputs, outputs, views = dict(recorded.inputs), recorded.outputs, recorded.views
    graph = fold(
        next(iter(outputs.values())).graph.as_graph_def(add_shapes=True),
        [tensor.name for tensor in outputs.values()],
    )
    nodes = {node.name: node for node in graph.node}
    weights = []
    for view in views:
        for placeholder in (view.matrix, view.logical):
            if placeholder is None or placeholder.op.name not in nodes:
                continue
            if placeholder is view.logical and prod(placeholder.shape) <= _CONSTANT_ELEMENTS:
                make_constant(nodes[placeholder.op.name], view.variable.numpy())
            else:
                weight = _weight_input(view, placeholder)
                weights.append(weight)
                inputs[weight.name] = placeholder
    return Signature(name, graph, inputs, outputs), weights


def record(model: Any, cache: Cache, length: int, *, logits: bool, head: str | None) -> Recording:
    """Run the model's code on symbolic tensors.

    Args:
        model: The Keras model.
        cache: Its cache.
        length: Tokens per call.
        logits: Whether to give those of one token.
        head: The weight that makes them, if known.
    """
    # No variable is read here, each has a placeholder: a plain graph will do, and a function of
    # TensorFlow's would take half as long again.
    with without_gradients(tf.Graph()):
        inputs = {
            "tokens": _input("tokens", (1, length), tf.int32),
            "input_pos": _input("input_pos", (length,), tf.int32),
        }
        if logits and length > 1:
            inputs["logits_row"] = _input("logits_row", (1,), tf.int32)
        row = inputs.get("logits_row")
        for tensor in cache.tensors:
            inputs[tensor.name] = _input(tensor.name, tensor.shape, tf.as_dtype(tensor.dtype))
        caches, tokens, position = CacheViews(), inputs["tokens"], inputs["input_pos"][0]
        slotted = [tensor for tensor in cache.tensors if isinstance(tensor, CacheTensor)]
        states = [tensor for tensor in cache.tensors if isinstance(tensor, StateTensor)]
        weights = WeightViews(named_variables(model), head=None if row is None else head, row=row)
        mask = tf.ones([1, cache.slots], tf.int32) if cache.explicit_mask else None
        if cache.prefix_prefill and length > 1:  # a single token sees what comes before it
            mask = prefix_mask(inputs["input_pos"], cache.slots)
        with through_views(weights, caches), cached_paths(model):
            logical = {t.name: caches.register(inputs[t.name], t) for t in slotted}
            begun = tf.cast(position > 0, tf.float32)
            logical |= {t.name: inputs[t.name] * begun for t in states}
            packed = cache.pack(logical)
            scores, updated = cached_call(model, tokens, packed, position, mask)
            unpacked = cache.unpack(updated)
            outputs = {t.name: caches.stored(unpacked[t.name], t) for t in slotted}
            written = {t.name: caches.written(unpacked[t.name], t) for t in slotted}
            for state in states:
                updated_state = source(unpacked[state.name])
                unchanged = updated_state.name == logical[state.name].name
                outputs[state.name] = inputs[state.name] if unchanged else updated_state
        if logits:
            if scores.shape[1] != 1:  # the head was not found, and made them for every token
                scores = tf.gather(scores, row, axis=1)
            outputs["logits"] = tf.cast(scores, tf.float32)
    return Recording(inputs, outputs, weights.views, written)


def named_variables(model: Any) -> Iterator[tuple[str, FloatWeight]]:
    """The variables of a model with names that are the same in all of its signatures."""
    return ((f"weight_{i}", variable) for i, variable in enumerate(float_weights(model)))


@contextlib.contextmanager
def through_views(weights: WeightViews, *others: Any) -> Iterator[None]:
    """Run model code through the views of weights, norms and masks, and those of ``others``."""
    windows = WindowViews()
    views = (*others, weights, NormViews(), WipedRows(), windows)
    with intercept(*views), windows.band_parts(), additive_masks(), weights.scope():
        yield


def _input(name: str, shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    return tf.compat.v1.placeholder(dtype, shape, name=name)


def _weight_input(view: WeightView, placeholder: tf.Tensor) -> WeightInput:
    if view.matrix is not None and placeholder is view.matrix:
        shape = tuple(int(dim) for dim in placeholder.shape)
        return WeightInput(view.name, view.variable, view.permutation, shape, frozenset(view.uses))
    axes = tuple(range(len(view.variable.shape)))
    return WeightInput(
        f"{view.name}_raw", view.variable, axes, tuple(view.variable.shape), frozenset()
    )
