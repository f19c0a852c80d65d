"""Record the model's own forward pass over a whole text, with weights as inputs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..signature_names import SERVING
from .signatures import Recording, Signature, WeightInput, lifted, named_variables, through_views
from .weight_views import WeightViews


def trace_forward(model: Any, length: int) -> tuple[Signature, list[WeightInput]]:
    """Trace the functional model for texts of ``length`` tokens; also return the weights it takes.

    Names and types are those of KerasHub's inputs: ``token_ids`` and ``padding_mask`` int32
    ``[1, length]``. The result is ``logits`` float32 ``[1, length, V]``.
    """
    with tf.Graph().as_default():
        inputs = {
            name: tf.compat.v1.placeholder(tf.int32, (1, length), name=name)
            for name in ("token_ids", "padding_mask")
        }
        weights = WeightViews(named_variables(model))
        with through_views(weights):
            logits = model(inputs, training=False)
        outputs = {"logits": tf.cast(logits, tf.float32)}
    return lifted(SERVING, Recording(inputs, outputs, weights.views))
