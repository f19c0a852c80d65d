"""Norm view: layer normalization in the fewest passes over the activations.

Keras computes ``x * inv + (beta - mean * inv)``, eleven TFLite operations. Centering first takes
nine, and two passes less over a row (GPT-2 124M spends an eighth of its time in them).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

_AXES = (-1, (-1,), [-1])


class NormViews:
    """The ``keras.ops`` of normalization, for tensors normalized over their last axis."""

    intercepted = ("layer_normalization", "reciprocal")

    def layer_normalization(
        self,
        original: Callable[..., Any],
        x: Any,
        gamma: Any = None,
        beta: Any = None,
        axis: Any = -1,
        epsilon: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """Normalize as in Ba et al., 2016 (arXiv:1607.06450), equation 4."""
        if axis not in _AXES or epsilon is None or any(kwargs.values()):
            return original(x, gamma, beta, axis, epsilon, **kwargs)
        x = x - tf.reduce_mean(x, axis=-1, keepdims=True)
        x = x * tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + epsilon)
        if gamma is not None:
            x = x * tf.convert_to_tensor(gamma)
        return x if beta is None else x + tf.convert_to_tensor(beta)

    def reciprocal(self, original: Callable[..., Any], x: Any) -> Any:
        """One operation for the reciprocal of a square root, as in Gemma's normalization."""
        if not tf.is_symbolic_tensor(x) or x.op.type != "Sqrt":
            return original(x)
        return tf.math.rsqrt(x.op.inputs[0])
