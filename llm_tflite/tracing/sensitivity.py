"""How much a model's loss depends on what comes out of each product.

The mean square of the gradient of a text's log-likelihood is the diagonal of Fisher's information:
half of it is what the square of a small error costs, in nats (LeCun et al., 1989, "Optimal Brain
Damage", with Fisher's information as the Hessian).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import tensorflow as tf

from ..activations import Moments
from ..errors import ConversionError
from .float_weights import FloatWeight
from .interception import intercept
from .observation import Product, ProductObserver, moments_of
from .reference import logits_tensor


class SensitivityObserver:
    """Collects second moments with gradients, one text after the other.

    Memory holds the activations of one text, for its backward pass.

    Args:
        model: The Keras model.
        weights: Those of the model.
    """

    def __init__(self, model: Any, weights: list[FloatWeight]) -> None:
        self._model = model
        self._weights = weights
        self._seen: dict[str, Moments] = {}

    def read(self, tokens: Sequence[int], *, prompt_tokens: int) -> None:
        """Read a text forward and backward; ``prompt_tokens`` is as for ``keras_logits``.

        Raises:
            ConversionError: An operation of the model has no gradient, or a value is not finite.
        """
        products: list[Product] = []
        # Several products share what they are multiplied with, and one gradient is asked for all.
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            observer = ProductObserver(self._weights, products.append, tape.watch)
            with intercept(SliceUpdates()), observer.observing():
                logits = logits_tensor(self._model, tokens, prompt_tokens=prompt_tokens)
            follows = tf.constant(tokens[1:], tf.int32)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(follows, logits[:-1])
            loss = tf.reduce_sum(losses)
        try:
            gradients = tape.gradient(loss, [product.result for product in products])
        except LookupError as error:  # what TensorFlow raises
            raise ConversionError(
                f"expected a gradient of every operation of {type(self._model).__name__}, to see "
                f"what its loss depends on; found one without ({error}): leave calibration out, or "
                "use 'int4'"
            ) from error
        for product, gradient in zip(products, gradients, strict=True):
            found = moments_of(product)
            if found is None or product.form is None:
                continue
            if gradient is not None:
                rows = product.form.outputs(np.asarray(gradient, np.float32))
                found = replace(found, gradients=np.square(rows).sum(axis=0))
            known = self._seen.get(product.name)
            self._seen[product.name] = found if known is None else known + found

    @property
    def seen(self) -> dict[str, Moments]:
        """By path of the variable."""
        return dict(self._seen)


class SliceUpdates:
    """``slice_update``, which writes caches, with the gradient that TensorFlow has none of."""

    intercepted = ("slice_update",)

    def slice_update(self, original: Any, inputs: Any, start_indices: Any, updates: Any) -> Any:
        """Write ``updates`` over a part of ``inputs``."""
        if tf.is_symbolic_tensor(inputs) or tf.is_symbolic_tensor(updates):
            return original(inputs, start_indices, updates)

        @tf.custom_gradient
        def written(inputs: Any, updates: Any) -> Any:
            def gradient(upstream: Any) -> Any:
                nothing = original(upstream, start_indices, tf.zeros_like(updates))
                return nothing, tf.slice(upstream, tf.stack(start_indices), tf.shape(updates))

            return original(inputs, start_indices, updates), gradient

        return written(inputs, updates)
