"""Compare the graphs of a ``prefill_decode`` file with the Keras model and with one another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..decoding import DecodingState, check_signatures
from ..manifest import Manifest
from ..runtime import RuntimeModel, return_freed_memory
from .agreement import Logits, compare, keras_logits

_RANDOM_TOKENS = 12
_GREEDY_TOKENS = 8


def check_caches(
    path: Path, manifest: Manifest, model: Any, *, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    """Run the converted model beside the Keras model and say how far they agree.

    Decoding, of given tokens and then of greedy ones, is compared with the model's own full forward
    pass. Each ``prefill_{T}`` is compared with the next smaller one, which reads the same prompt in
    more pieces; the graphs with shorter caches with those for the whole context.

    Args:
        path: The converted ``.tflite``.
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
    tokens, ours, figures, ends = _check_whole_context(path, manifest, prompt, lossless)
    figures["short_caches"] = {
        str(slots): _check_short_caches(path, manifest, slots, end, lossless)
        for slots, end in ends.items()
    }
    # Keras copies the head's matrix to transpose it, so it has its turn when the runtime is gone.
    theirs = keras_logits(model, tokens)[-len(ours) :]
    figures["greedy"] = compare("Keras' forward pass", theirs, ours, lossless)
    return figures


@contextmanager
def _opened(path: Path, manifest: Manifest, slots: int) -> Iterator[DecodingState]:
    """Open the model with caches of one size.

    Every graph that has run keeps its memory until the model is closed, and the runtime holds on to
    all caches that it has seen: hence one size at a time.
    """
    runtime = RuntimeModel(str(path))
    try:
        check_signatures(runtime, manifest)
        state = DecodingState(runtime, manifest)
        state.sizes = (slots,)
        yield state
        del state
    finally:
        runtime.close()


def _check_whole_context(
    path: Path, manifest: Manifest, prompt: Sequence[int], lossless: bool
) -> tuple[list[int], Logits, dict[str, Any], dict[int, Logits]]:
    """Decode, and compare the prefill graphs.

    Also returned: tokens and logits of the decoding, and what comes after as many random tokens as
    each short cache holds.
    """
    with _opened(path, manifest, manifest.model.context_length) as state:
        tokens, logits = _decode(state, manifest, prompt)
        figures = {"prefill": _check_prefill(state, manifest, lossless)}
        ends = {
            slots: _last_logits(state, _random_tokens(manifest, slots))
            for slots in manifest.model.short_caches
        }
        return tokens, logits, figures, ends


def _decode(
    state: DecodingState, manifest: Manifest, prompt: Sequence[int]
) -> tuple[list[int], Logits]:
    """Read a prompt and go on greedily; return all tokens that were read, and the logits."""
    room = max(1, manifest.model.context_length - _GREEDY_TOKENS)
    tokens = list(prompt or _random_tokens(manifest, _RANDOM_TOKENS))[:room]
    length = len(tokens) + _GREEDY_TOKENS
    state.prefill(tokens[: len(tokens) // 3], lengths=manifest.model.prefill_lengths[:1])
    logits = []
    while not state.full and state.position < length:
        logits.append(state.decode(tokens[state.position]))
        if state.position == len(tokens):
            tokens.append(int(logits[-1].argmax()))
    return tokens[: state.position], np.stack(logits)


def _check_prefill(state: DecodingState, manifest: Manifest, lossless: bool) -> dict[str, Any]:
    """Compare each prefill graph with the next smaller one, on a prompt that fills it."""
    figures = {}
    slots = state.sizes[-1]
    for smaller, larger in pairwise(t for t in manifest.model.prefill_lengths if t <= slots):
        tokens = _random_tokens(manifest, min(larger + 1, slots))
        expected = _last_logits(state, tokens, lengths=(smaller,))
        found = _last_logits(state, tokens, lengths=(larger,))
        figures[f"prefill_{larger}"] = compare(f"prefill_{smaller}", expected, found, lossless)
    return figures


def _check_short_caches(
    path: Path, manifest: Manifest, slots: int, expected: Logits, lossless: bool
) -> dict[str, Any]:
    """Compare the graphs with caches of ``slots`` with those of the whole context."""
    with _opened(path, manifest, slots) as state:
        found = _last_logits(state, _random_tokens(manifest, slots))
        figures = _check_prefill(state, manifest, lossless)
    figures["decode"] = compare("decode with the whole cache", expected, found, lossless)
    return figures


def _last_logits(
    state: DecodingState, tokens: list[int], lengths: Sequence[int] | None = None
) -> Logits:
    """What comes after ``tokens``, as one row of logits."""
    state.prefill(tokens[:-1], lengths=lengths)
    return state.decode(tokens[-1])[None]


def _random_tokens(manifest: Manifest, count: int) -> list[int]:
    """Token ids from the whole vocabulary, the same for every conversion."""
    generator = np.random.default_rng(0)
    return [int(t) for t in generator.integers(0, manifest.model.vocabulary_size, count)]
