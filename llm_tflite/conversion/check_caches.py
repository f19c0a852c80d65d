"""Compare the graphs of a ``prefill_decode`` file with the Keras model and with one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..decoding import DecodingState, check_signatures
from ..flatbuffer.selection import only_signatures
from ..manifest import Manifest
from ..runtime import RuntimeModel, return_freed_memory
from ..signature_names import signature_name
from .agreement import (
    Choices,
    Logits,
    choices_begin,
    compare_caches,
    compare_logits,
    keras_logits,
)

_RANDOM_TOKENS = 12
_GREEDY_TOKENS = 8


def check_caches(
    path: Path, manifest: Manifest, model: Any, *, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    """Run the converted model beside the Keras model and say how far they agree.

    Decoding, of given tokens and then of greedy ones, behind the smallest prefill graph is compared
    with the model's own full forward pass. Each larger ``prefill_{T}`` is compared with the next
    smaller one, which reads the same prompt in more pieces; the graphs with shorter caches with
    those for the whole context.

    Args:
        path: The converted ``.tflite``; meanwhile it shows only some of its signatures.
        manifest: What the file will say of itself.
        model: The Keras model.
        prompt: Token ids to begin with; random ones where there is no tokenizer to make some.
        lossless: Whether the weights are stored as they are, so that only rounding may differ.

    Returns:
        The figures, for the manifest.

    Raises:
        DisagreementError: Showing what both sides say.
        IncompatibleArtifactError: The file lacks a signature that the manifest promises.
    """
    return_freed_memory()  # the converter's, before as much is taken again
    tokens, ours, ends = _decode(path, manifest, prompt)
    figures: dict[str, Any] = {"prefill": _check_prefill(path, manifest, None, lossless)}
    figures["short_caches"] = {
        str(slots): {
            "decode": _check_short_decode(path, manifest, slots, expected, lossless),
            **_check_prefill(path, manifest, slots, lossless),
        }
        for slots, expected in ends.items()
    }
    # Keras copies the head's matrix to transpose it, so it has its turn when the runtime is gone.
    theirs = keras_logits(model, tokens)[-len(ours) :]
    figures["greedy"] = compare_logits("Keras' forward pass", theirs, ours, lossless)
    return figures


def choices_of_caches(
    path: Path, manifest: Manifest, texts: Sequence[Sequence[int]]
) -> list[Choices]:
    """Let the file read texts to their end, and say what it would have written instead.

    Args:
        path: The converted ``.tflite``.
        manifest: What the file will say of itself.
        texts: Token ids, none longer than the context.
    """
    choices = []
    with _opened(path, manifest, None, _decoding_graphs(manifest, None)) as state:
        for text in texts:
            begin = choices_begin(text)
            state.clear()
            state.prefill(text[: begin - 1], lengths=manifest.model.prefill_lengths[:1])
            chosen = [int(state.decode(token).argmax()) for token in text[begin - 1 :]]
            choices.append(Choices(text, chosen))
    return choices


@contextmanager
def _opened(
    path: Path, manifest: Manifest, slots: int | None, lengths: Sequence[int | None]
) -> Iterator[DecodingState]:
    """Open some of the graphs with caches of one size, and nothing else.

    Every graph keeps its memory until the model is closed, and the runtime holds on to all caches
    that it has seen. Whoever keeps the state keeps them too.

    Args:
        path: The file.
        manifest: What it will say of itself.
        slots: The size; None for the whole context.
        lengths: Those of the prefill graphs; None for the graph that decodes.
    """
    variants = [(length, slots) for length in lengths]
    with only_signatures(path, {signature_name(*variant) for variant in variants}):
        runtime = RuntimeModel(str(path))
        try:
            check_signatures(runtime, manifest, variants)
            state = DecodingState(runtime, manifest)
            state.sizes = (slots or manifest.model.context_length,)
            yield state
            del state
        finally:
            runtime.close()


def _ladder(manifest: Manifest, slots: int | None) -> list[int]:
    return [t for t in manifest.model.prefill_lengths if slots is None or t <= slots]


def _decoding_graphs(manifest: Manifest, slots: int | None) -> list[int | None]:
    return [None, *_ladder(manifest, slots)[:1]]


def _decode(
    path: Path, manifest: Manifest, prompt: Sequence[int]
) -> tuple[list[int], Logits, dict[int, Logits]]:
    """Read a prompt and go on greedily, with caches for the whole context.

    Returns:
        All tokens that were read; the logits of those that were decoded; and what comes after as
        many random tokens as each short cache holds.
    """
    room = max(1, manifest.model.context_length - _GREEDY_TOKENS)
    tokens = list(prompt or _random_tokens(manifest, _RANDOM_TOKENS))[:room]
    length = len(tokens) + _GREEDY_TOKENS
    logits = []
    with _opened(path, manifest, None, _decoding_graphs(manifest, None)) as state:
        state.prefill(tokens[: len(tokens) // 3], lengths=manifest.model.prefill_lengths[:1])
        while not state.full and state.position < length:
            logits.append(state.decode(tokens[state.position]))
            if state.position == len(tokens):
                tokens.append(int(logits[-1].argmax()))
        read = tokens[: state.position]
        ends = {slots: _end(state, manifest, slots) for slots in manifest.model.short_caches}
    return read, np.stack(logits), ends


def _check_short_decode(
    path: Path, manifest: Manifest, slots: int, expected: Logits, lossless: bool
) -> dict[str, Any]:
    with _opened(path, manifest, slots, _decoding_graphs(manifest, slots)) as state:
        found = _end(state, manifest, slots)
    return compare_logits("decode with the whole cache", expected, found, lossless)


def _end(state: DecodingState, manifest: Manifest, slots: int) -> Logits:
    """What comes after ``slots`` random tokens, as one row of logits."""
    tokens = _random_tokens(manifest, slots)
    state.prefill(tokens[:-1], lengths=manifest.model.prefill_lengths[:1])
    return state.decode(tokens[-1])[None]


def _check_prefill(
    path: Path, manifest: Manifest, slots: int | None, lossless: bool
) -> dict[str, Any]:
    """Compare what each prefill graph leaves in the caches with the next smaller one."""
    figures = {}
    for lengths in pairwise(_ladder(manifest, slots)):
        expected, found = _filled_caches(path, manifest, slots, lengths)
        names = (f"prefill_{lengths[0]}", f"prefill_{lengths[1]}")
        figures[names[1]] = compare_caches(names, expected, found, lossless)
    return figures


def _filled_caches(
    path: Path, manifest: Manifest, slots: int | None, lengths: tuple[int, int]
) -> list[dict[str, Logits]]:
    """What two prefill graphs leave in the caches of the same prompt."""
    smaller, larger = lengths
    # Whole calls of the smaller graph; the larger one may have to pad.
    tokens = _random_tokens(manifest, larger - larger % smaller)
    filled = []
    with _opened(path, manifest, slots, lengths) as state:
        for length in lengths:
            state.prefill(tokens, lengths=(length,))
            filled.append({cache.name: state.filled(cache) for cache in manifest.cache})
    return filled


def _random_tokens(manifest: Manifest, count: int) -> list[int]:
    """Token ids from the whole vocabulary, the same for every conversion."""
    generator = np.random.default_rng(0)
    return [int(t) for t in generator.integers(0, manifest.model.vocabulary_size, count)]
