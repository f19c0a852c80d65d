"""Which part of its cache a model uses: the rest is neither stored nor carried along.

KerasHub stacks the caches of all layers in one tensor, so that a layer has a place in it though it
reads another layer's keys and values, and heads as large as the largest. What a layer does
with its place shows in a recorded step.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

from ..cache_types import CacheType
from ..errors import InvalidOptionError, UnsupportedModelError
from .fold import fold
from .prefix import reads_prefix
from .probe import Cache, CacheStructure, probe_cache
from .signatures import Recording, record
from .states import CompositeCache

# Fewer than the slots, where there are several: a prefill step.
_TOKENS = 2


def learn_cache(model: Any, context_length: int, dtype: CacheType = "float32") -> Cache:
    """Say which cache a model needs for a context of ``context_length`` tokens.

    Args:
        model: The Keras model.
        context_length: Slots of its keys and values.
        dtype: The type in which they are stored.

    Raises:
        UnsupportedModelError: The model has no cache of a form known here, or does with it what the
            type does not allow.
        InvalidOptionError: The model has states alone, and they would be in another type.
    """
    cache = _learned(model, context_length)
    if dtype == "float32":
        return cache
    if all(tensor.slot_axis is None for tensor in cache.tensors):
        raise InvalidOptionError(
            f"{type(model).__name__} keeps states and neither keys nor values; states are float32 "
            f"in every file: leave cache_dtype={dtype!r} out"
        )
    cache = cache.with_dtype(dtype)
    record(
        model, cache, min(_TOKENS, cache.slots), logits=False, head=None
    )  # refused here or never
    return cache


def _learned(model: Any, context_length: int) -> Cache:
    cache = probe_cache(model, context_length)
    if isinstance(cache, CompositeCache):
        recorded = record(model, cache, 1, logits=False, head=None)
        idle = {name for name, out in recorded.outputs.items() if out is recorded.inputs[name]}
        return replace(cache, idle=frozenset(idle))
    cache = replace(cache, prefix_prefill=reads_prefix(model))
    cache, recorded = _recorded(model, cache)
    cache = replace(cache, unused=_unused(recorded, cache, type(model).__name__))
    places = []
    for place in cache.places:
        extent = recorded.written[place.name]
        narrowed = place.name not in cache.unused and extent != place.whole_extent
        places.append(replace(place, extent=extent) if narrowed else place)
    return replace(cache, places=tuple(places))


def _recorded(model: Any, cache: CacheStructure) -> tuple[CacheStructure, Recording]:
    """Record a step, and say with which arguments that works."""
    length = min(_TOKENS, cache.slots)
    failure: Exception | None = None
    # Gemma 3n takes no mask for one as long as the step, which does not fit its cache.
    takes_mask = "padding_mask" in inspect.signature(model.call_with_cache).parameters
    for explicit in (False, True) if takes_mask else (False,):
        told = replace(cache, explicit_mask=explicit)
        try:
            return told, record(model, told, length, logits=True, head=None)
        except ValueError as error:  # what TensorFlow and Keras say of shapes that do not fit
            failure = error
    reason = str(failure).strip().partition("\n")[0]
    raise UnsupportedModelError(
        f"expected {type(model).__name__}.call_with_cache to read {length} tokens with a cache for "
        f"{cache.slots}; it failed: {reason}"
    ) from failure


def _unused(recorded: Recording, cache: CacheStructure, model_name: str) -> frozenset[str]:
    """Names of the caches that a step returns as they were, or as another one, and never reads.

    A runtime that keeps a cache in one buffer, in and out, fills only one of two equal outputs.
    """
    seen: set[str] = set()
    idle, outputs = [], [recorded.outputs["logits"].name]
    for place in cache.places:
        output = recorded.outputs[place.name].name
        if output in seen or output == recorded.inputs[place.name].name:
            idle.append(place.name)
        else:
            outputs.append(output)
        seen.add(output)
    if idle:
        graph = next(iter(recorded.outputs.values())).graph.as_graph_def(add_shapes=True)
        read = {node.name for node in fold(graph, outputs).node}
        for name in idle:
            if recorded.inputs[name].op.name in read:
                raise UnsupportedModelError(
                    f"expected {model_name} to write to every layer's cache that it reads; it "
                    f"reads {name} and returns it unchanged, or as a copy of another one"
                )
    return frozenset(idle)
