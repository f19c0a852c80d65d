"""What a model must be for tracing to begin."""

from __future__ import annotations

from typing import Any

import keras

from ..errors import InvalidOptionError, UnsupportedModelError
from .cached_paths import short_factor_limit
from .reference import frozen_weights

# Weights, and the counters and seeds that dropout and friends keep beside them.
_EXPECTED_TYPES = {"float32", "int32", "int64", "uint32", "bool"}


def check_model(model: Any) -> None:
    """Refuse what is no float32 causal language model on TensorFlow.

    Raises:
        UnsupportedModelError: Saying which of the conditions fails.
    """
    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise UnsupportedModelError(
            "conversion traces TensorFlow; expected the Keras backend 'tensorflow', found "
            f"{backend!r}: set KERAS_BACKEND=tensorflow before importing keras, then load the model"
        )
    missing = [
        name
        for name in ("call_with_cache", "generate_step", "backbone")
        if not hasattr(model, name)
    ]
    if missing:
        raise UnsupportedModelError(
            "expected a KerasHub CausalLM, which decodes with a cache; "
            f"{type(model).__name__} has no {missing[0]!r}"
        )
    others = {v.dtype for v in model.variables} - _EXPECTED_TYPES
    if others or model.compute_dtype != "float32":
        found = ", ".join(sorted(others | {model.compute_dtype}))
        raise UnsupportedModelError(
            f"expected weights and computation in float32; found {found}: load the model with "
            'dtype="float32" and choose the stored type with the quantizer'
        )
    adapted = [layer.path for layer in _layers(model) if getattr(layer, "lora_enabled", False)]
    if adapted:
        raise UnsupportedModelError(
            f"expected merged weights; {len(adapted)} layers ({adapted[0]}, ...) have LoRA on: "
            "save the weights and load them into a model without LoRA, which merges them"
        )


def check_inputs(model: Any) -> None:
    """Refuse a model whose forward pass reads more than a text.

    Raises:
        UnsupportedModelError: Its inputs are not token ids and their mask, or it holds copies of
            weights.
    """
    if shapes := frozen_weights(model):
        raise UnsupportedModelError(
            f"the layout 'forward' needs a forward pass that reads the model's weights; that of "
            f"{type(model).__name__} holds a copy of one of shape {list(shapes[0])}, made when the "
            "model was: use the layout 'prefill_decode'"
        )
    expected = {"token_ids": "int32", "padding_mask": "int32"}
    inputs = getattr(model, "input", None)
    found = {name: x.dtype for name, x in inputs.items()} if isinstance(inputs, dict) else inputs
    if found not in (expected, {**expected, "position_ids": "int32"}):
        raise UnsupportedModelError(
            f"the layout 'forward' reads text alone; expected {type(model).__name__} to take "
            f"{expected}, found {found}"
        )


def vocabulary_size(model: Any) -> int:
    """How many tokens the model has a logit for; backbones have several names for it."""
    return int(model.output.shape[-1])


def position_limit(model: Any) -> int | None:
    """How many tokens a text may have, piece by piece or at once; None where nothing limits it."""
    return min((limit for limit, _ in _limits(model)), default=None)


def check_context(model: Any, option: str, length: int) -> None:
    """Refuse a context that the model cannot have.

    Raises:
        InvalidOptionError: It is longer than the table of positions, or than texts that are all
            rotated alike.
    """
    limit, reason = min(_limits(model), default=(length, ""))
    if length > limit:
        raise InvalidOptionError(
            f"{option} is {length}, but {type(model).__name__} {reason}; pass {option}={limit} or "
            "less"
        )


def _limits(model: Any) -> list[tuple[int, str]]:
    """Lengths that no text may exceed, and what the model is like, to say why."""
    tables = [
        (layer.sequence_length, f"has embeddings for {layer.sequence_length} positions")
        for layer in _layers(model)
        if hasattr(layer, "position_embeddings") and isinstance(layer.sequence_length, int)
    ]
    limit = short_factor_limit(model)
    if limit is None:
        return tables
    reason = (
        f"rotates whole texts of more than {limit} tokens by other factors than short ones, and "
        "what was cached of a text before it grew so long would not be rotated again"
    )
    return [*tables, (limit, reason)]


def _layers(model: Any) -> list[Any]:
    # _flatten_layers is how Keras itself walks nested layers; KerasHub relies on it too.
    return list(model._flatten_layers(include_self=False, recursive=True))
