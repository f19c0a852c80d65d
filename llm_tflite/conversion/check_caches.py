"""Compare the graphs of a ``prefill_decode`` file with the Keras model and with one another."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..decoding import DecodingState, check_signatures
from ..flatbuffer.selection import only_signatures
from ..manifest import CacheBuffer, Manifest
from ..runtime import RuntimeModel, return_freed_memory
from ..signature_names import Variant, prefill_ladder
from ..tracing.reference import keras_logits
from .agreement import (
    CACHE_TOLERANCES,
    Choices,
    Logits,
    choices_begin,
    compare_caches,
    compare_logits,
)

_RANDOM_TOKENS = 12
_GREEDY_TOKENS = 8
# Of keys, of values and of each kind of state, those of so many layers are compared.
_LAYERS = 4


def check_caches(
    path: Path, manifest: Manifest, model: Any, *, prompt: Sequence[int], lossless: bool
) -> dict[str, Any]:
    """Run the converted model beside the Keras model and say how far they agree.

    Decoding with the whole context, of given tokens and then of greedy ones, is compared with the
    model's own full forward pass. Each ``prefill_{T}`` is compared with the next smaller graph,
    which reads the same prompt in more pieces; the graphs with short caches with those for the
    whole context, up to their last slot. Only what is compared is open at a time.

    A prefix language model reads a prompt in one call or wrongly. So each prefill graph is compared
    with Keras, on a prompt that fills it.

    Args:
        path: The converted ``.tflite``; meanwhile it shows only some of its signatures.
        manifest: What the file will say of itself.
        model: The Keras model.
        prompt: Token ids to begin with; random ones where there is no tokenizer to make some.
        lossless: Whether the weights are stored as they are, so that only rounding may differ: as
            much as the type of the caches explains.

    Returns:
        The figures, for the manifest.

    Raises:
        DisagreementError: Showing what both sides say.
        IncompatibleArtifactError: The file lacks a signature that the manifest promises.
    """
    gc.collect()  # the converter's leavings, before as much memory is taken again
    check = _CacheCheck(path, manifest, lossless)
    answer = check.answer(prompt)
    figures = check.prompts(model) if manifest.model.prefix_prefill else check.prefill()
    figures["short_caches"] = check.short_caches()
    figures["greedy"] = check.compare(model, answer)
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
    ladder = manifest.model.prefill_lengths
    lengths = ladder[-1:] if manifest.model.prefix_prefill else ladder[:1]
    with _opened(path, manifest, None, {None, *lengths}) as state:
        for text in texts:
            begin = choices_begin(text)
            state.clear()
            chosen = [int(state.read(text[:begin], lengths=lengths).argmax())]
            chosen += [int(state.decode(token).argmax()) for token in text[begin:]]
            choices.append(Choices(text, chosen))
    return choices


@contextmanager
def _opened(
    path: Path, manifest: Manifest, slots: int | None, lengths: Collection[int | None]
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
    return_freed_memory()  # of what was open before
    variants = [(length, slots) for length in lengths]
    with only_signatures(path, {manifest.model.signature_name(*v) for v in variants}):
        runtime = RuntimeModel(str(path))
        try:
            check_signatures(runtime, manifest, variants)
            state = DecodingState(runtime, manifest)
            state.sizes = (slots or manifest.model.context_length,)
            yield state
            del state
        finally:
            runtime.close()


@dataclass(frozen=True)
class _Answer:
    """Tokens that were read, a prompt and what came after it, and the logits of the last ones."""

    tokens: Sequence[int]
    prompt_tokens: int
    logits: Logits


class _CacheCheck:
    """Opens the graphs of one file, a few at a time, and compares what they say."""

    def __init__(self, path: Path, manifest: Manifest, lossless: bool) -> None:
        self._path = path
        self._manifest = manifest
        self._facts = manifest.model
        self._agreement = (lossless, max(CACHE_TOLERANCES[c.dtype] for c in manifest.cache))

    def answer(self, prompt: Sequence[int], length: int | None = None) -> _Answer:
        """Read a prompt and go on greedily.

        Args:
            prompt: What to read; random tokens if there are none.
            length: The prefill graph that reads it, where one call must; by default the smallest
                that can.
        """
        room = max(1, self._facts.context_length - _GREEDY_TOKENS)
        tokens = list(prompt or self._random_tokens(_RANDOM_TOKENS))[:room]
        count, lengths, logits = len(tokens), [], []
        if self._facts.prefix_prefill:  # else, decoding reads it
            lengths = [length or next(t for t in self._ladder(None) if t >= count)]
        with _opened(self._path, self._manifest, None, {None, *lengths}) as state:
            state.prefill(())
            if lengths:
                logits.append(state.read(tokens, lengths=lengths))
                tokens.append(int(logits[-1].argmax()))
            while not state.full and state.position < count + _GREEDY_TOKENS:
                logits.append(state.decode(tokens[state.position]))
                if state.position == len(tokens):
                    tokens.append(int(logits[-1].argmax()))
            return _Answer(tokens[: state.position], count, np.stack(logits))

    def compare(self, model: Any, answer: _Answer) -> dict[str, Any]:
        """Compare an answer with the Keras model's forward pass.

        Keras copies the head's matrix to transpose it, so it has its turn when the runtime is gone.
        """
        theirs = keras_logits(model, answer.tokens, prompt_tokens=answer.prompt_tokens)
        theirs = theirs[-len(answer.logits) :]
        return compare_logits("Keras' forward pass", theirs, answer.logits, *self._agreement)

    def prompts(self, model: Any) -> dict[str, Any]:
        """Compare each prefill graph for the whole context with Keras, on a prompt to fill it."""
        return {
            "prefill": {
                self._facts.signature_name(length, None): self.compare(
                    model, self.answer(self._random_tokens(length), length)
                )
                for length in self._ladder(None)
            }
        }

    def prefill(self) -> dict[str, Any]:
        """Compare each prefill graph for the whole context with the next smaller graph."""
        return {"prefill": self._chain(None, [None, *self._ladder(None)])}

    def short_caches(self) -> dict[str, Any]:
        """Compare the graphs of each short cache with those for the whole context, by its size."""
        figures = {}
        for slots in self._facts.short_caches:
            ladder = self._ladder(slots)
            longest = ladder[-1] if ladder else None
            whole, short = (longest, None), (longest, slots)
            figures[str(slots)] = {
                "whole_context": self._compare(whole, short, slots // (longest or 1)),
                "decode": self._check_last_slot(slots, longest),
                **self._chain(slots, ladder),
            }
        return figures

    def _chain(self, slots: int | None, lengths: Sequence[int | None]) -> dict[str, Any]:
        """Compare each graph with the next smaller one, on a prompt that both read."""
        return {
            self._facts.signature_name(larger, None): self._compare(
                (smaller, slots), (larger, slots), (larger or 1) // (smaller or 1)
            )
            for smaller, larger in pairwise(lengths)
        }

    def _compare(self, reference: Variant, tested: Variant, calls: int) -> dict[str, Any]:
        """Compare two graphs on a prompt that ``calls`` calls of the first one fill.

        Where no call may be padded, it fills one of the second, and decoding helps the first. Where
        no prompt may be cut, one call of each reads it.
        """
        count = calls * (reference[0] or 1)
        if self._facts.prefix_prefill:
            count = min(reference[0] or 1, tested[0] or 1)
        if self._facts.exact_prefill:
            count = max(count, tested[0] or 1)
        tokens = self._random_tokens(count)
        expected, found = (self._read(*variant, tokens) for variant in (reference, tested))
        found = {name: values for name, values in found.items() if name in expected}
        names = self._facts.signature_name(*reference), self._facts.signature_name(*tested)
        return compare_caches(names, expected, found, *self._agreement)

    def _check_last_slot(self, slots: int, length: int | None) -> dict[str, Any]:
        """Compare what comes after a full cache, as decoding says it and as reading a prompt."""
        tokens, lengths = self._random_tokens(slots), [length] if length else []
        if self._facts.prefix_prefill:
            return self._compare_last_slot(slots, length)
        with _opened(self._path, self._manifest, slots, {None, length}) as state:
            state.prefill(tokens[:-1], lengths=lengths)
            decoded = state.decode(tokens[-1])
            read = state.read(tokens, lengths=lengths)
        name = self._facts.signature_name(length, slots)
        return compare_logits(name, read[None], decoded[None], *self._agreement)

    def _compare_last_slot(self, slots: int, length: int | None) -> dict[str, Any]:
        """Compare what decoding says with a short cache in its last slot and with all slots.

        Zeros stand behind the prompt, which no single call could read up to there.
        """
        *tokens, last = self._random_tokens((length or 1) + 1)
        logits = []
        for size in (None, slots):
            with _opened(self._path, self._manifest, size, {None, length}) as state:
                state.prefill(tokens)
                state.position = slots - 1
                logits.append(state.decode(last)[None])
        whole, short = logits
        return compare_logits("decode", whole, short, *self._agreement)

    def _read(self, length: int | None, slots: int | None, tokens: list[int]) -> dict[str, Logits]:
        """What a graph makes of a prompt: caches, and logits if it gives some.

        Of the caches, those of the last layers: what is wrong in a layer is wrong behind it, too.
        """
        lengths, results = [length] if length else [], {}
        opened = {length, None} if self._facts.exact_prefill else {length}
        with _opened(self._path, self._manifest, slots, opened) as state:
            if slots is None:
                state.prefill(tokens, lengths=lengths)
            else:
                results["logits"] = state.read(tokens, lengths=lengths)
            for cache in self._last_caches():
                results[cache.name] = state.filled(cache)
        return results

    def _last_caches(self) -> Iterator[CacheBuffer]:
        kinds: dict[str, list[CacheBuffer]] = {}
        for cache in self._manifest.cache:
            kinds.setdefault(cache.name.rpartition("_")[0], []).append(cache)
        for caches in kinds.values():
            yield from caches[-_LAYERS:]

    def _ladder(self, slots: int | None) -> list[int]:
        return prefill_ladder(self._facts.prefill_lengths, self._facts.short_caches, slots)

    def _random_tokens(self, count: int) -> list[int]:
        """Token ids from the whole vocabulary, the same for every conversion."""
        generator = np.random.default_rng(0)
        return [int(t) for t in generator.integers(0, self._facts.vocabulary_size, count)]
