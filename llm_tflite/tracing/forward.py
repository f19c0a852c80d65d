"""Record the model's own forward pass over a whole text, with weights as inputs."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from ..errors import UnsupportedModelError
from ..signature_names import SERVING
from .gradients import without_gradients
from .signatures import Recording, Signature, WeightInput, lifted, named_variables, through_views
from .weight_views import WeightViews


def trace_forward(model: Any, length: int) -> tuple[Signature, list[WeightInput]]:
    """Trace the functional model for texts of ``length`` tokens; also return the weights it takes.

    Names and types are those of KerasHub's inputs: ``token_ids`` and ``padding_mask`` int32
    ``[1, length]``. A model that asks for ``position_ids`` is told that a text begins at 0. The
    result is ``logits`` float32 ``[1, length, V]``.

    Raises:
        UnsupportedModelError: The model holds a large tensor that is no variable.
    """
    # Functional models hold what they computed when they were made, as Gemma's scale of its
    # embedding; a function's graph takes small tensors in as constants, a plain one takes none.
    with without_gradients(tf.__internal__.FuncGraph(SERVING)) as graph:
        inputs = {
            name: tf.compat.v1.placeholder(tf.int32, (1, length), name=name)
            for name in ("token_ids", "padding_mask")
        }
        told = {"position_ids": tf.range(length)[tf.newaxis]}
        asked = {name: tensor for name, tensor in told.items() if name in model.input}
        weights = WeightViews(named_variables(model))
        with through_views(weights):
            logits = model({**inputs, **asked}, training=False)
        outputs = {"logits": tf.cast(logits, tf.float32)}
    large = [tensor for tensor in graph.internal_captures if tensor.op.type != "Const"]
    if large:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in large)
        raise UnsupportedModelError(
            f"the layout 'forward' needs a forward pass of layers and their weights; that of "
            f"{type(model).__name__} holds tensors of shape {shapes}, made when the model was: use "
            "the layout 'prefill_decode'"
        )
    return lifted(SERVING, Recording(inputs, outputs, weights.views))
