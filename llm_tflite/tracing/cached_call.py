"""Call ``call_with_cache`` with the arguments that a model's own version of it takes."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf


def cached_call(
    model: Any, tokens: tf.Tensor, cache: Any, position: tf.Tensor
) -> tuple[tf.Tensor, Any]:
    """Let the model read some tokens, all of them real.

    Args:
        model: A KerasHub ``CausalLM``.
        tokens: int32 ``[1, T]``.
        cache: In the model's own form.
        position: int32 ``[]``, the place of the first of them in the text.

    Returns:
        Logits ``[1, T, V]``, and the cache behind these tokens.
    """
    parameters = list(inspect.signature(model.call_with_cache).parameters.values())
    if len(parameters) > 2 and parameters[2].default is inspect.Parameter.empty:
        logits, _, updated = model.call_with_cache(tokens, cache, position)
        return logits, updated
    # A model that counts no positions makes its mask from the tokens and takes token 0 for a pad,
    # where its forward pass goes by the mask.
    arguments = {}
    if any(parameter.name == "padding_mask" for parameter in parameters):
        arguments["padding_mask"] = tf.ones(tokens.shape, tf.int32)
    logits, _, updated = model.call_with_cache(tokens, cache, **arguments)
    return logits, updated
