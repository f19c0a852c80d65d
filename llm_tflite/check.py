"""Compare a converted model with the Keras model that it came from, before anybody relies on it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .decoding import DecodingState, check_signatures
from .errors import DisagreementError
from .manifest import Manifest
from .runtime import RuntimeModel

_RANDOM_TOKENS = 12
_GREEDY_TOKENS = 8
# Largest difference of logits, as a share of their range, that arithmetic in another order
# explains.
_FLOAT_TOLERANCE = 1e-3
# Logits of a different or damaged model correlate with the right ones by about 0; four bits on the
# smallest models by 0.5 to 0.9. Anything better is a matter of quality, and stated, not judged.
_LEAST_CORRELATION = 0.3

Logits = npt.NDArray[np.float32]


def check_core(
    path: Path, manifest: Manifest, model: Any, *, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    """Run the converted model beside the Keras model and say how far they agree.

    Decoding, of given tokens and then of greedy ones, is compared with the model's own full forward
    pass. Each ``prefill_{T}`` is compared with the next smaller one, which reads the same prompt in
    more pieces; each graph with a window with those that have none.

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
    runtime = RuntimeModel(str(path))
    try:
        check_signatures(runtime, manifest)
        figures = _check_whole_context(runtime, _without_windows(manifest), model, prompt, lossless)
        if manifest.model.windows:
            figures["windows"] = _check_windows(runtime, manifest, lossless)
        return figures
    finally:
        runtime.close()


def _check_whole_context(
    runtime: RuntimeModel, manifest: Manifest, model: Any, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    state = DecodingState(runtime, manifest)
    return {
        "greedy": _check_decoding(state, manifest, model, prompt, lossless),
        "prefill": _check_prefill(state, manifest, lossless),
    }


def _check_decoding(
    state: DecodingState, manifest: Manifest, model: Any, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    room = max(1, manifest.model.context_length - _GREEDY_TOKENS)
    tokens = list(prompt or _random_tokens(manifest, _RANDOM_TOKENS))[:room]
    known = len(tokens)
    begin = known // 3
    state.prefill(tokens[:begin], lengths=manifest.model.prefill_lengths[:1])
    found = []
    while not state.full and len(tokens) < known + _GREEDY_TOKENS:
        found.append(state.decode(tokens[state.position]))
        if state.position == len(tokens):
            tokens.append(int(found[-1].argmax()))
    ours = np.stack(found)
    theirs = _keras_logits(model, tokens[: state.position])[begin:]
    return _compare("Keras' forward pass", theirs, ours, lossless)


def _check_prefill(state: DecodingState, manifest: Manifest, lossless: bool) -> dict[str, Any]:
    ladder = manifest.model.prefill_lengths
    figures = {}
    for smaller, larger in pairwise(ladder):
        count = min(larger, manifest.model.context_length - 1)
        tokens = _random_tokens(manifest, count + 1)
        logits = []
        for lengths in ((smaller,), (larger,)):
            state.prefill(tokens[:-1], lengths=lengths)
            logits.append(state.decode(tokens[-1])[None])
        figures[f"prefill_{larger}"] = _compare(
            f"prefill_{smaller}", logits[0], logits[1], lossless=lossless
        )
    return figures


def _check_windows(runtime: RuntimeModel, manifest: Manifest, lossless: bool) -> dict[str, Any]:
    """Fill each window with the graphs that read it alone, and with those that have none."""
    expected = _last_logits(runtime, _without_windows(manifest), manifest.model.windows)
    found = _last_logits(runtime, manifest, manifest.model.windows)
    return {
        f"window_{window}": _compare("decode", expected[window], found[window], lossless)
        for window in manifest.model.windows
    }


def _last_logits(
    runtime: RuntimeModel, manifest: Manifest, lengths: Sequence[int]
) -> dict[int, Logits]:
    state = DecodingState(runtime, manifest)
    logits = {}
    for length in lengths:
        tokens = _random_tokens(manifest, length)
        state.prefill(tokens[:-1])
        logits[length] = state.decode(tokens[-1])[None]
    return logits


def _without_windows(manifest: Manifest) -> Manifest:
    return dataclasses.replace(manifest, model=dataclasses.replace(manifest.model, windows=()))


def _compare(name: str, expected: Logits, found: Logits, lossless: bool) -> dict[str, Any]:
    difference = float(np.abs(expected - found).max())
    spread = float(np.ptp(expected))
    correlation = _correlation(expected, found)
    same = expected.argmax(-1) == found.argmax(-1)
    if lossless:
        agrees = difference <= _FLOAT_TOLERANCE * spread
    else:
        agrees = correlation >= _LEAST_CORRELATION
    if not agrees:  # NaN on either side agrees with nothing.
        raise DisagreementError(
            f"the converted model disagrees with {name}: expected greedy tokens "
            f"{expected.argmax(-1).tolist()}, found {found.argmax(-1).tolist()}; the logits "
            f"differ by up to {difference:.3g} in a range of {spread:.3g} and correlate by "
            f"{correlation:.4f}. No file was written; convert with quantizer='none' to see "
            "whether quantization is the cause"
        )
    return {
        "tokens": len(same),
        "equal_tokens": int(same.sum()),
        "max_logit_difference": difference,
        "logit_range": spread,
        "correlation": correlation,
    }


def _correlation(expected: Logits, found: Logits) -> float:
    """Correlation of what the logits owe to their position, which a damaged model gets wrong.

    What all positions share, how common each word is, would hide any damage.
    """
    if len(expected) > 1:
        expected = expected - expected.mean(axis=0)
        found = found - found.mean(axis=0)
    return float(np.corrcoef(expected.ravel(), found.ravel())[0, 1])


def _random_tokens(manifest: Manifest, count: int) -> list[int]:
    """Token ids from the whole vocabulary, the same for every conversion."""
    generator = np.random.default_rng(0)
    return [int(t) for t in generator.integers(0, manifest.model.vocabulary_size, count)]


def _keras_logits(model: Any, tokens: list[int]) -> Logits:
    ids = np.array([tokens], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    logits: Logits = np.asarray(model(inputs, training=False), np.float32)[0]
    return logits
