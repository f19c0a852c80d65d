"""What a model must be for tracing to begin."""

from __future__ import annotations

from typing import Any

import keras

from ..errors import InvalidOptionError, UnsupportedModelError
from .cached_paths import short_factor_limit
from .float_weights import FLOATS, Adapter, float_weights, model_layers, quantizable_matrices
from .reference import frozen_weights

# Counters and seeds that dropout and friends keep beside the weights.
_COUNTERS = ("int32", "int64", "uint32", "bool")
_QUANTIZATION_MODES = (None, "int8", "int4")


def check_model(model: Any) -> None:
    """Refuse what is no causal language model on TensorFlow whose weights can be read as float32.

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
    vocabulary_size(model)
    _check_types(model)
    _check_adapters(model)


def _check_types(model: Any) -> None:
    for layer in model_layers(model):
        mode = layer.quantization_mode
        if mode not in _QUANTIZATION_MODES:
            raise UnsupportedModelError(
                f"expected layers that Keras quantized to int8 or int4, or not at all; "
                f"{layer.path} is of the mode {mode!r}: convert the model as it was before, and "
                "choose the stored type with the quantizer"
            )
    for weight in float_weights(model):
        if weight.dtype not in ("float32", *_COUNTERS):
            raise UnsupportedModelError(
                f"expected weights in {', '.join(FLOATS)}, or quantized by Keras; {weight.path} is "
                f"{weight.dtype}: load the model with one of these as its dtype"
            )


def _check_adapters(model: Any) -> None:
    known = [
        (layer, name)
        for layer, name, _ in quantizable_matrices(model)
        if Adapter.of(layer, name) is not None
    ]
    merged = {id(layer) for layer, _ in known}
    for layer in model_layers(model):
        if getattr(layer, "lora_enabled", False) and id(layer) not in merged:
            raise UnsupportedModelError(
                f"expected LoRA beside a kernel or an embedding of Keras' own layers; {layer.path} "
                "has another kind: merge it into the weights first"
            )
    for layer, name in known:
        if name == "embeddings" and layer.quantization_mode and getattr(layer, "tie_weights", None):
            raise UnsupportedModelError(
                f"{layer.path} is quantized and has LoRA, which Keras then adds where the table is "
                "looked up and not where it makes logits, so it is two matrices; expected one: "
                "merge LoRA before quantize()"
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
    """How many tokens the model has a logit for.

    A functional model shows it in its output; KerasHub's backbones have several names for it, and
    one made by hand is expected to have the most common one.

    Raises:
        UnsupportedModelError: The model does not say.
    """
    size = getattr(model.backbone, "vocabulary_size", None)
    if isinstance(model, keras.src.models.Functional):
        size = model.output.shape[-1]
    if not isinstance(size, int):
        raise UnsupportedModelError(
            f"expected {type(model).__name__}.backbone to say its vocabulary_size as an int, like "
            "those of KerasHub"
        )
    return size


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
        for layer in model_layers(model)
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
