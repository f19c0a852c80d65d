"""Say how far the float32 form of a model is from the model in types of its own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..manifest import Model
from ..tracing.float_code import float_code, own_types
from ..tracing.reference import keras_logits
from .agreement import compare_logits

_TOKENS = 16


def check_own_types(model: Any, facts: Model) -> dict[str, Any]:
    """Compare Keras' forward pass in the model's types with the one that the file was checked by.

    Args:
        model: A Keras model that is not in float32 throughout.
        facts: What the manifest says of it.

    Returns:
        The types, and the figures: what rounding to bfloat16 costs the Keras model, or integer
        arithmetic.

    Raises:
        DisagreementError: The two say different things.
    """
    count = min(_TOKENS, facts.context_length)
    tokens = np.random.default_rng(0).integers(0, facts.vocabulary_size, count).tolist()
    own = keras_logits(model, tokens)
    with float_code(model):
        exact = keras_logits(model, tokens)
    types = own_types(model)
    name = f"Keras' forward pass in {', '.join(types['compute'])}"
    return types | compare_logits(name, own, exact, lossless=False)
