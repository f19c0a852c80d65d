"""The logits that a converted model is compared with: the Keras model's own, of a whole text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .cache_usage import learn_cache
from .cached_call import cached_call
from .float_code import float_code, has_rounded_constants
from .gradients import without_gradients

# What a forward pass over a text may ask for; anything else is an image, a sound or their places.
_OF_A_TEXT = {"token_ids", "padding_mask", "position_ids"}
# A graph takes as long to make as some texts of its length take without one.
_TEXTS_WITHOUT_GRAPH = 3


def keras_logits(
    model: Any,
    tokens: Sequence[int],
    mask: npt.NDArray[np.int32] | None = None,
    *,
    prompt_tokens: int = 0,
) -> npt.NDArray[np.float32]:
    """The model's own full forward pass over one text: float32 ``[len(tokens), V]``.

    Args:
        model: The Keras model.
        tokens: The text.
        mask: int32 ``[len(tokens)]``, 0 for padding; by default there is none.
        prompt_tokens: How many of the tokens are the prompt. Only a prefix language model, which
            reads these in both directions, tells it from what follows.
    """
    logits = logits_tensor(model, tokens, mask, prompt_tokens=prompt_tokens)
    result: npt.NDArray[np.float32] = np.asarray(logits, np.float32)
    return result


def logits_tensor(
    model: Any,
    tokens: Sequence[int],
    mask: npt.NDArray[np.int32] | None = None,
    *,
    prompt_tokens: int = 0,
) -> tf.Tensor:
    """The same as TensorFlow has it, with the gradients that a tape asks for."""
    if mask is None and not _answers_for_itself(model):
        ids = np.array([tokens], np.int32)
        return _through_the_cache(model, ids, prompt_tokens)[0]
    return model(_inputs(model, tokens, mask), training=False)[0]


class TextReader:
    """Reads many texts as ``keras_logits`` does, in a graph where a length comes often.

    Args:
        model: The Keras model, whose weights may change from text to text.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._read: Counter[int] = Counter()
        self._graphs: dict[int, Any] = {}

    def logits(self, tokens: Sequence[int]) -> npt.NDArray[np.float32]:
        """What the model says of a text: float32 ``[len(tokens), V]``."""
        length = len(tokens)
        self._read[length] += 1
        if self._read[length] <= _TEXTS_WITHOUT_GRAPH or not _answers_for_itself(self._model):
            return keras_logits(self._model, tokens)
        inputs = {
            name: tf.constant(value) for name, value in _inputs(self._model, tokens, None).items()
        }
        if length not in self._graphs:
            self._graphs[length] = self._graph(inputs)
        result: npt.NDArray[np.float32] = np.asarray(self._graphs[length](inputs), np.float32)
        return result

    def _graph(self, inputs: dict[str, tf.Tensor]) -> Any:
        read = tf.function(lambda given: self._model(given, training=False)[0], autograph=False)
        graph = read.get_concrete_function(inputs)
        with without_gradients(graph.graph):
            return graph


def _answers_for_itself(model: Any) -> bool:
    rounded = has_rounded_constants(model) and model.backbone.compute_dtype == "float32"
    return not rounded and reads_text_alone(model)


def _inputs(
    model: Any, tokens: Sequence[int], mask: npt.NDArray[np.int32] | None
) -> dict[str, npt.NDArray[np.int32]]:
    ids = np.array([tokens], np.int32)
    inputs = {
        "token_ids": ids,
        "padding_mask": np.ones_like(ids) if mask is None else mask[None],
        "position_ids": np.arange(len(tokens), dtype=np.int32)[None],
    }
    return {name: inputs[name] for name in _input_names(model)}


def reads_text_alone(model: Any) -> bool:
    """Whether the functional model can be asked for the logits of a text, and answers for itself.

    Gemma 3n's computes logits outside of any layer: with the weights of the day it was made.
    """
    return {"token_ids"} <= _input_names(model) <= _OF_A_TEXT and not frozen_weights(model)


def frozen_weights(model: Any) -> list[tuple[int, ...]]:
    """Shapes of the matrices that the functional model holds copies of, as arguments of a plain op.

    They do not follow the model's variables when these change.
    """
    shapes = {tuple(v.shape) for v in model.variables if len(v.shape) > 1}
    shapes |= {shape[::-1] for shape in shapes}
    found = []
    for operation in getattr(model, "operations", ()):
        for node in operation._inbound_nodes:
            for argument in tf.nest.flatten((node.arguments.args, node.arguments.kwargs)):
                array = isinstance(argument, (tf.Tensor, tf.Variable, np.ndarray))
                if array and tuple(argument.shape) in shapes:
                    found.append(tuple(argument.shape))
    return found


def _input_names(model: Any) -> set[str]:
    if not isinstance(model, keras.src.models.Functional):  # made by hand: it says nothing
        return {"token_ids", "padding_mask"}
    inputs = model.input
    return set(inputs) if isinstance(inputs, dict) else set()


def _through_the_cache(model: Any, ids: npt.NDArray[np.int32], prompt_tokens: int) -> Any:
    """One step over the whole text, with a cache that is empty and just as long.

    It is not told of images, and its head reads the weights of today. What a prefix language model
    is told of the prompt, all of its tokens may see: of the rest, each sees what comes before it.
    """
    with float_code(model):  # a cache is described in float32 only
        cache = learn_cache(model, ids.shape[1])
    empty = {t.name: tf.zeros(getattr(t, "logical_shape", t.shape)) for t in cache.tensors}
    mask = tf.ones([1, cache.slots], tf.int32) if cache.explicit_mask else None
    if cache.prefix_prefill:
        mask = tf.cast(tf.range(cache.slots) < prompt_tokens, tf.int32)[None]
    packed = tf.nest.map_structure(
        lambda part: tf.cast(part, model.compute_dtype), cache.pack(empty)
    )
    return cached_call(model, tf.constant(ids), packed, 0, mask)[0]
