"""The weights of a Keras model in the form in which files store them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..signature_names import Variant
from .cache_usage import learn_cache
from .forward import trace_forward
from .signatures import WeightInput, WeightInputs, trace_signatures


def decoding_weights(
    model: Any, context_length: int, prefill_lengths: Sequence[int]
) -> list[WeightInput]:
    """The weights of signatures with caches; two of them are traced to learn each one's form.

    Args:
        model: A KerasHub ``CausalLM`` whose code computes in float32 (``float_code``).
        context_length: Tokens that its cache holds.
        prefill_lengths: Tokens of the prefill signatures.
    """
    weights = WeightInputs()
    variants: list[Variant] = [(None, None), (min(prefill_lengths), None)]
    for _ in trace_signatures(model, learn_cache(model, context_length), variants, weights):
        pass
    return list(weights)


def forward_weights(model: Any, length: int) -> list[WeightInput]:
    """The weights of the forward pass over a text of ``length`` tokens."""
    return trace_forward(model, length)[1]
