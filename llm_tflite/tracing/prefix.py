"""Prefix language models: a prompt is read in both directions, an answer from left to right.

PaliGemma is one. Each token of its prompt sees the whole of it, so that a prompt must be read in
one call: what was read before could not see what comes after. Its layers take a mask of the slots
that every token may see, and are causal without one.
"""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf

from .float_weights import model_layers


def reads_prefix(model: Any) -> bool:
    """Whether the model tells a prompt from an answer: its layers take a mask of the latter."""
    return any(
        "response_mask" in inspect.signature(layer.call).parameters for layer in model_layers(model)
    )


def differences(model: Any) -> list[str]:
    """In what the answers of LiteRT-LM, which decodes the last token of a prompt, are others."""
    if not reads_prefix(model):
        return []
    return [
        "in LiteRT-LM no token of a prompt sees its last one, as it does in Keras and in "
        "llm_tflite: its answers may differ"
    ]


def prefix_mask(positions: tf.Tensor, slots: int) -> tf.Tensor:
    """Which slots every token of a call may see, int32 ``[1, slots]``: up to its last token.

    Args:
        positions: int32 ``[T]``. LiteRT-LM gives 0 as the position of a pad, as we do, so that the
            greatest is the last token's.
        slots: Those of the cache.
    """
    return tf.cast(tf.range(slots) <= tf.reduce_max(positions), tf.int32)[None]
