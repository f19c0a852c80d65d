"""Layers whose cached path says something else than their forward pass, and what to run instead.

The forward pass is what the model was trained with, so it is what a file follows. Each rule knows
its layers by what they are made of; ``docs/keras_differences.md`` tells their story.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

from .float_weights import model_layers


@dataclass(frozen=True)
class CachedPath:
    """One rule.

    Attributes:
        parts: Attributes that its layers have.
        call: What they do instead of their own ``call``, which is its second argument; None where
            the layers are right and only ``generate`` calls them wrongly.
        note: In what the file differs from Keras' ``generate``, in one sentence; None where
            ``generate`` says the same.
    """

    parts: frozenset[str]
    call: Callable[..., Any] | None
    note: str | None = None

    def layers(self, model: Any) -> list[Any]:
        """The layers of a model that the rule is for."""
        return [
            layer
            for layer in model_layers(model)
            if all(hasattr(layer, part) for part in self.parts)
        ]


def _rotate_once(
    layer: Any,
    original: Callable[..., Any],
    hidden_states: Any,
    attention_mask: Any = None,
    cache: Any = None,
    cache_update_index: Any = None,
    training: Any = None,
) -> Any:
    """Rotate queries and keys to their positions, and cache the keys that way.

    KerasHub 0.32 caches keys as they are and rotates the whole cache at every step. The slots'
    numbers are the right positions for that; for the step's queries it counts from 0 too.
    """
    if cache is None or cache_update_index is None:
        return original(hidden_states, attention_mask, cache, cache_update_index, training)
    ops = keras.ops

    def rotated(x: Any) -> Any:
        turned = layer.rotary_embedding_layer(
            x[..., : layer.rotary_dim], start_index=cache_update_index
        )
        return ops.concatenate((turned, x[..., layer.rotary_dim :]), axis=-1)

    query, key, value = ops.split(layer._qkv_dense(hidden_states), 3, axis=-1)
    start = [0, cache_update_index, 0, 0]
    key = ops.slice_update(cache[:, 0, ...], start, rotated(key))
    value = ops.slice_update(cache[:, 1, ...], start, value)
    output = layer._compute_attention(
        rotated(query), key, value, attention_mask=attention_mask, training=training
    )
    output = ops.reshape(output, (*output.shape[:2], layer.hidden_dim))
    return layer._output_dense(output), ops.stack((key, value), axis=1)


def _rotate_by_short_factors(
    layer: Any, original: Callable[..., Any], inputs: Any, start_index: Any = 0
) -> Any:
    """Rotate as the forward pass does with every text that a file can hold.

    KerasHub 0.32 chooses factors by the last position of a call, so a text that grows long is
    rotated by both kinds. A file holds short ones alone (``short_factor_limit``): no step has to
    choose.
    """
    del original  # it computes the choice in the graph, for every layer
    positions = layer._compute_positions(inputs, start_index)
    cosine, sine = layer._compute_cos_sin_embedding(inputs, positions=positions)
    return layer._apply_rotary_pos_emb(inputs, cosine, sine)


_SHORT_AND_LONG_FACTORS = CachedPath(
    parts=frozenset(
        (
            "inverese_freq_short_factor",  # so spelt in KerasHub
            "inverese_freq_long_factor",
            "pretraining_sequence_length",
            "_compute_positions",
            "_compute_cos_sin_embedding",
            "_apply_rotary_pos_emb",
        )
    ),
    call=_rotate_by_short_factors,
)

CACHED_PATHS = (
    _SHORT_AND_LONG_FACTORS,
    CachedPath(
        parts=frozenset(
            (
                "rotary_embedding_layer",
                "rotary_dim",
                "hidden_dim",
                "_qkv_dense",
                "_compute_attention",
                "_output_dense",
            )
        ),
        call=_rotate_once,
        note="differs from Keras' generate, which rotates every query to position 0 once it "
        "decodes with a cache: this file follows the model's forward pass",
    ),
    # Qwen 3.5's gated delta net (Yang et al., 2024, arXiv:2412.06464).
    CachedPath(
        parts=frozenset(("in_proj_qkv", "conv1d_weight", "dt_bias", "A_log")),
        call=None,
        note="differs from Keras' generate, which lets the states read the last token of a prompt "
        "twice: this file follows the model's forward pass",
    ),
)


def differences(model: Any) -> list[str]:
    """In what a file of the model differs from Keras' ``generate``."""
    return [path.note for path in CACHED_PATHS if path.note and path.layers(model)]


def short_factor_limit(model: Any) -> int | None:
    """Up to how many tokens a text is rotated by its model's short factors; None without such."""
    layers = _SHORT_AND_LONG_FACTORS.layers(model)
    return min((layer.pretraining_sequence_length for layer in layers), default=None)


@contextlib.contextmanager
def cached_paths(model: Any) -> Iterator[None]:
    """Make the layers that a rule is for follow it until the block ends."""
    changed = []
    try:
        for path in CACHED_PATHS:
            if path.call is None:
                continue
            for layer in path.layers(model):
                call = functools.partial(path.call, layer, layer.call)
                # Keras guards attributes of layers, so the rule goes in, and out, behind its back.
                object.__setattr__(layer, "call", call)
                changed.append(layer)
        yield
    finally:
        for layer in changed:
            object.__delattr__(layer, "call")
