"""Call ``call_with_cache`` with the arguments that a model's own version of it takes."""

from __future__ import annotations

import inspect
from typing import Any

import tensorflow as tf


def cached_call(
    model: Any,
    tokens: tf.Tensor,
    cache: Any,
    position: tf.Tensor | int,
    mask: tf.Tensor | None = None,
) -> tuple[tf.Tensor, Any]:
    """Let the model read some tokens.

    Args:
        model: A KerasHub ``CausalLM``.
        tokens: int32 ``[1, T]``.
        cache: In the model's own form.
        position: int32 ``[]``, the place of the first of them in the text.
        mask: int32 ``[1, S]``, for a model that must be told of the slots of its cache: that each
            holds a real token, or which ones a prompt fills that is read in both directions.

    Returns:
        Logits ``[1, T, V]``, and the cache behind these tokens.
    """
    parameters = inspect.signature(model.call_with_cache).parameters
    if _takes_position(list(parameters.values())):
        told = {} if mask is None else {"padding_mask": mask}
        logits, _, updated = model.call_with_cache(tokens, cache, position, **told)
        return logits, updated
    # A model that counts no positions makes its mask from the tokens and takes token 0 for a pad,
    # where its forward pass goes by the mask.
    arguments = {}
    if "padding_mask" in parameters:
        arguments["padding_mask"] = tf.ones(tokens.shape, tf.int32)
    logits, _, updated = model.call_with_cache(tokens, cache, **arguments)
    return logits, updated


def _takes_position(parameters: list[inspect.Parameter]) -> bool:
    """Whether the third argument is the place of the tokens, and no option of the model's own."""
    third = next(iter(parameters[2:]), None)
    if third is not None and third.kind is third.POSITIONAL_OR_KEYWORD:
        return third.name == "cache_update_index" or third.default is third.empty
    return any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters)
