"""Compare a file of the ``forward`` layout with the Keras model."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..manifest import Manifest
from ..runtime import RuntimeModel, return_freed_memory
from ..signature_names import SERVING
from ..tracing.reference import keras_logits
from .agreement import Choices, choices_begin, compare_logits

_RANDOM_TOKENS = 12
# Positions of each text that are compared at either end. The last ones depend on all others; what
# quantization costs on random weights adds up along a text, so they alone would not do.
_POSITIONS = 16
_MASKED_SHARE = 0.2


def check_forward(
    path: Path, manifest: Manifest, model: Any, *, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    """Run the converted model beside the Keras model and say how far they agree.

    It reads a text with padding behind it and, so that a mask without effect is noticed, random
    tokens that fill the file, with padding among them.

    Args:
        path: The converted ``.tflite``.
        manifest: What the file will say of itself.
        model: The Keras model.
        prompt: Token ids of the text; random ones where there is no tokenizer to make some.
        lossless: Whether the weights are stored as they are, so that only rounding may differ.

    Returns:
        The figures, for the manifest.

    Raises:
        DisagreementError: Showing what both sides say.
    """
    random = np.random.default_rng(0)
    length = manifest.model.context_length
    tokens = random.integers(0, manifest.model.vocabulary_size, length).astype(np.int32)
    among = (random.random(length) >= _MASKED_SHARE).astype(np.int32)
    among[0] = 1  # a token with nothing to attend to would show nothing
    text = np.array([*(prompt or tokens[:_RANDOM_TOKENS]), *tokens], np.int32)[:length]
    behind = (np.arange(length) < (len(prompt) or _RANDOM_TOKENS)).astype(np.int32)
    texts = {"padding_behind": (text, behind), "padding_among": (tokens, among)}

    gc.collect()  # the converter's leavings, before as much memory is taken again
    return_freed_memory()
    positions = {name: _ends(np.flatnonzero(mask)) for name, (_, mask) in texts.items()}
    found = {}
    runtime = RuntimeModel(str(path))
    try:
        for name, (ids, mask) in texts.items():
            inputs = {"token_ids": ids[None], "padding_mask": mask[None]}
            found[name] = runtime.call(SERVING, inputs)["logits"][0, positions[name]]
    finally:
        runtime.close()
    return {
        name: compare_logits(
            "Keras' forward pass",
            keras_logits(model, ids.tolist(), mask)[positions[name]],
            found[name],
            lossless,
        )
        for name, (ids, mask) in texts.items()
    }


def choices_of_forward(path: Path, texts: Sequence[Sequence[int]], length: int) -> list[Choices]:
    """Let the file read texts, and say what it would have written instead.

    Args:
        path: The converted ``.tflite``.
        texts: Token ids, none longer than ``length``.
        length: Tokens that the file reads at once.
    """
    choices = []
    runtime = RuntimeModel(str(path))
    try:
        for text in texts:
            ids, mask = np.zeros((2, 1, length), np.int32)
            ids[0, : len(text)], mask[0, : len(text)] = text, 1
            logits = runtime.call(SERVING, {"token_ids": ids, "padding_mask": mask})["logits"][0]
            chosen = logits[choices_begin(text) - 1 : len(text)].argmax(-1)
            choices.append(Choices(text, chosen.tolist()))
    finally:
        runtime.close()
    return choices


def _ends(positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return np.unique(np.concatenate([positions[:_POSITIONS], positions[-_POSITIONS:]]))
