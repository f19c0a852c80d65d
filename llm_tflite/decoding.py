"""The memory of one generation: its caches and states, and the calls that fill them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .cache_types import cache_values, size_axis
from .chunk_plan import ChunkStep, plan_chunks, plan_whole
from .errors import IncompatibleArtifactError
from .manifest import CacheBuffer, Manifest
from .runtime import Buffer, RuntimeModel, TensorSpec
from .signature_names import Variant, prefill_ladder, signature_variants

Logits = npt.NDArray[np.float32]

# Idle states kept for the next generation. Each is as large as its longest text needed.
_IDLE_STATES = 2


@dataclass(frozen=True)
class _Call:
    """One signature with all that a run needs, made once and used for every token.

    Attributes:
        signature: Its name.
        token_array: The tokens of a call, to be filled.
        position_array: Their places, to be filled.
        inputs: A buffer for every input.
        outputs: A buffer for every output; those of slots are inputs too.
    """

    signature: str
    token_array: npt.NDArray[np.int32]
    position_array: npt.NDArray[np.int32]
    inputs: dict[str, Buffer]
    outputs: dict[str, Buffer]


class DecodingState:
    """The caches of one generation, and how far they are filled.

    A text begins in the smallest caches that the model has graphs for and moves to larger ones as
    it grows: attention takes the time of what is allocated. States, which have no slots, never see
    a pad.

    Attributes:
        position: How many tokens the caches hold; the next one goes to this slot.
        sizes: Slots of the caches that may be used, rising; all that the model has at first.
    """

    def __init__(self, model: RuntimeModel, manifest: Manifest) -> None:
        """Allocate nothing yet."""
        self.position = 0
        self.sizes = (*manifest.model.short_caches, manifest.model.context_length)
        self._model = model
        self._manifest = manifest
        self._slots = self.sizes[0]
        # The runtime holds on to every buffer that it has seen, so none is ever given back.
        self._caches: dict[int, dict[str, Buffer]] = {}
        self._spares: dict[int, dict[str, Buffer]] = {}
        self._logits: Buffer | None = None
        self._calls: dict[tuple[int, int | None], _Call] = {}

    @property
    def full(self) -> bool:
        """Whether no further token has a slot."""
        return self.position >= self._manifest.model.context_length

    def clear(self) -> None:
        """Write zeros over the caches, so that nothing of what they held can reach a result.

        Starting again from position 0 does not need this: the graph gives stale slots and states
        the weight zero. But zero times NaN is NaN, so it does after a result that was not finite.
        """
        for slots in self._caches:
            self._clear(slots)

    def read(self, tokens: Sequence[int], *, lengths: Sequence[int] | None = None) -> Logits:
        """Begin anew with ``tokens`` and return the scores of every token that could come next.

        Args:
            tokens: At least one, and as many as the context has slots, at most.
            lengths: As for ``prefill``.
        """
        facts = self._manifest.model
        self._slots = self._size_for(len(tokens), prompt=len(tokens))
        if self._slots == facts.context_length:  # its prefill graphs give no scores
            if facts.prefix_prefill:  # the last token sees the same when it is read once more
                self.prefill(tokens, lengths=lengths)
                self.position -= 1
            else:
                self.prefill(tokens[:-1], lengths=lengths)
            return self.decode(tokens[-1])
        *_, last = self._run_chunks(tokens, lengths)
        return self._scores(last)

    def prefill(self, tokens: Sequence[int], *, lengths: Sequence[int] | None = None) -> None:
        """Begin anew with ``tokens``; no scores come out.

        Args:
            tokens: As many as the context has slots, at most.
            lengths: The prefill lengths to use; by default, whichever are fastest.
        """
        self._slots = self._size_for(len(tokens) + 1, prompt=len(tokens))
        self._run_chunks(tokens, lengths)

    def decode(self, token: int) -> Logits:
        """Read one token and return the scores of every token that could come next."""
        if self.position >= self._slots:
            self._grow()
        call = self._call(None)
        call.token_array[0] = token
        self._run(call, self.position, 1)
        self.position += 1
        return self._scores(call)

    def _run_chunks(self, tokens: Sequence[int], lengths: Sequence[int] | None) -> list[_Call]:
        """Fill the caches from the first slot on; returns the calls that were made."""
        ladder = self._ladder(self._slots)
        if lengths is not None:
            ladder = [length for length in ladder if length in lengths]
        calls = []
        for step in self._plan(len(tokens), [1, *ladder]):
            call = self._call(step.length if step.length in ladder else None)
            call.token_array[: step.count] = tokens[step.start : step.start + step.count]
            call.token_array[step.count :] = 0
            self._run(call, step.start, step.count)
            calls.append(call)
        self.position = len(tokens)
        return calls

    def _plan(self, count: int, lengths: Sequence[int]) -> list[ChunkStep]:
        facts = self._manifest.model
        if facts.prefix_prefill:
            return plan_whole(count, lengths=lengths)
        # Without room behind the tokens, the plan has no pads.
        capacity = count if facts.exact_prefill else self._slots
        return plan_chunks(count, lengths=lengths, capacity=capacity)

    def _run(self, call: _Call, start: int, count: int) -> None:
        positions = call.position_array
        positions[:count] = np.arange(start, start + count)
        positions[count:] = 0  # as LiteRT-LM has it; it shows where a prefix model's prompt ends
        call.inputs["tokens"].write(call.token_array)
        call.inputs["input_pos"].write(positions)
        if "logits_row" in call.inputs:
            call.inputs["logits_row"].write(np.array([count - 1], np.int32))
        caches, spares = self._caches[self._slots], self._spares[self._slots]
        for name in spares:
            call.inputs[name], call.outputs[name] = caches[name], spares[name]
            caches[name], spares[name] = spares[name], caches[name]
        self._model.run(call.signature, call.inputs, call.outputs)

    def _scores(self, call: _Call) -> Logits:
        scores: Logits = call.outputs["logits"].read(
            self._manifest.model.vocabulary_size, np.float32
        )
        return scores

    def _size_for(self, count: int, *, prompt: int = 0) -> int:
        """The least slots that hold ``count`` tokens; the most there are if none do.

        Args:
            count: Tokens that need a slot.
            prompt: How many of them are read at once where a prompt must not be cut.
        """
        sizes = [slots for slots in self.sizes if slots >= count]
        if self._manifest.model.prefix_prefill:
            sizes = [slots for slots in sizes if max([1, *self._ladder(slots)]) >= prompt]
        return next(iter(sizes), self.sizes[-1])

    def _ladder(self, slots: int) -> list[int]:
        """Lengths of the prefill graphs with caches of a size."""
        facts = self._manifest.model
        short = None if slots == facts.context_length else slots
        return prefill_ladder(facts.prefill_lengths, facts.short_caches, short)

    def _grow(self) -> None:
        """Move the text to the next larger caches."""
        smaller = self._slots
        self._slots = self._size_for(self.position + 1)
        if self._slots not in self._caches:
            self._allocate(self._signature(None, self._slots))
        for cache in self._manifest.cache:
            shape = cache_shape(cache, smaller)
            values = np.zeros(cache_shape(cache, self._slots), cache.dtype)
            values[tuple(map(slice, shape))] = self._read(cache, smaller)
            self._caches[self._slots][cache.name].write(values)

    def filled(self, cache: CacheBuffer) -> npt.NDArray[np.float32]:
        """What a cache holds of the tokens so far, as numbers: S is ``position``, or a state."""
        shape = cache_shape(cache, self.position)
        stored = self._read(cache, self._slots)[tuple(map(slice, shape))]
        if cache.slot_axis is None:
            return stored.copy()
        return cache_values(stored, cache.dtype, size_axis(cache.shape, cache.slot_axis))

    def _read(self, cache: CacheBuffer, slots: int) -> npt.NDArray[Any]:
        shape = cache_shape(cache, slots)
        values: npt.NDArray[Any] = self._caches[slots][cache.name].read(
            math.prod(shape), cache.dtype
        )
        return values.reshape(shape)

    def _clear(self, slots: int) -> None:
        for cache in self._manifest.cache:
            # New memory is zeros, and takes no room until it is written to.
            if (values := self._read(cache, slots)).view(np.uint8).any():
                self._caches[slots][cache.name].write(np.zeros_like(values))

    def _allocate(self, signature: str) -> None:
        """Make the caches that a graph asks for; what they hold is undefined."""
        caches = self._manifest.cache
        self._caches[self._slots] = {
            cache.name: self._model.input_buffer(signature, cache.name) for cache in caches
        }
        # Nothing promises that a graph reads a state for the last time before it writes the new
        # one, as it does with slots; so states have two buffers, which change places.
        self._spares[self._slots] = {
            cache.name: self._model.input_buffer(signature, cache.name)
            for cache in caches
            if cache.slot_axis is None
        }

    def _signature(self, length: int | None, slots: int) -> str:
        facts = self._manifest.model
        whole = slots == facts.context_length
        return facts.signature_name(length, None if whole else slots)

    def _call(self, length: int | None) -> _Call:
        """The graph that reads ``length`` tokens, or decodes one, with the caches in use."""
        if (self._slots, length) in self._calls:
            return self._calls[self._slots, length]
        signature = self._signature(length, self._slots)
        if self._slots not in self._caches:
            self._allocate(signature)
            self._clear(self._slots)
        caches = self._caches[self._slots]
        inputs = {
            name: caches.get(name) or self._model.input_buffer(signature, name)
            for name in self._model.signatures[signature].inputs
        }
        # The same buffer in and out: slots are updated in place and never copied.
        outputs = {
            name: caches.get(name) or self._logits_buffer(signature)
            for name in self._model.signatures[signature].outputs
        }
        count = length or 1
        tokens, positions = np.zeros(count, np.int32), np.arange(count, dtype=np.int32)
        call = _Call(signature, tokens, positions, inputs, outputs)
        self._calls[self._slots, length] = call
        return call

    def _logits_buffer(self, signature: str) -> Buffer:
        if self._logits is None:
            self._logits = self._model.output_buffer(signature, "logits")
        return self._logits


class DecodingStates:
    """Hands a state to every generation that runs, and takes it back.

    Any number may be out at once, so that one thread can hold several streams. Running two states
    in turn costs up to 5 % more per token than one (GPT-2 124M int8: 15.4 ms against 14.7 ms), as
    their caches push each other out of the processor's.
    """

    def __init__(self, model: RuntimeModel, manifest: Manifest) -> None:
        """Refuse a model that is not what the manifest says; allocate nothing yet."""
        check_signatures(model, manifest)
        self._model = model
        self._manifest = manifest
        # A deque needs no lock, which a stream that is garbage collected could find already held.
        self._idle: deque[DecodingState] = deque(maxlen=_IDLE_STATES)

    @contextmanager
    def take(self) -> Iterator[DecodingState]:
        """Lend a state with nothing in it."""
        try:
            state = self._idle.pop()
        except IndexError:
            state = DecodingState(self._model, self._manifest)
        state.prefill(())
        try:
            yield state
        finally:
            self._idle.append(state)

    def close(self) -> None:
        """Free the states that are idle; those in use are freed when they are done."""
        self._idle = deque(maxlen=0)


def check_signatures(
    model: RuntimeModel, manifest: Manifest, variants: Iterable[Variant] | None = None
) -> None:
    """Refuse a model whose signatures are not those its manifest promises.

    The runtime checks neither shapes nor positions, so whatever differs here would end as a wrong
    answer there.

    Args:
        model: The open model.
        manifest: What it is said to be.
        variants: Length and slots of the graphs that are needed; by default all that are promised.
    """
    facts = manifest.model
    if variants is None:
        variants = signature_variants(facts.prefill_lengths, facts.short_caches)
    for length, slots in variants:
        name = facts.signature_name(length, slots)
        if name not in model.signatures:
            raise IncompatibleArtifactError(f"the model lacks the signature {name!r}")
        caches = {
            cache.name: TensorSpec(cache_shape(cache, slots or facts.context_length), cache.dtype)
            for cache in manifest.cache
        }
        inputs = caches | {
            "tokens": TensorSpec((1, length or 1), "int32"),
            "input_pos": TensorSpec((length or 1,), "int32"),
        }
        outputs = dict(caches)
        if length is None or slots is not None:
            outputs["logits"] = TensorSpec((1, 1, facts.vocabulary_size), "float32")
            if length not in (None, 1):
                inputs["logits_row"] = TensorSpec((1,), "int32")
        _check_tensors(f"an input of {name!r}", inputs, model.signatures[name].inputs)
        _check_tensors(f"an output of {name!r}", outputs, model.signatures[name].outputs)


def cache_shape(cache: CacheBuffer, slots: int) -> tuple[int, ...]:
    """Shape of a cache with ``slots`` along its axis of slots; a state has but one shape."""
    axis = cache.slot_axis
    if axis is None:
        return cache.shape
    return (*cache.shape[:axis], slots, *cache.shape[axis + 1 :])


def _check_tensors(
    what: str, expected: Mapping[str, TensorSpec], found: Mapping[str, TensorSpec]
) -> None:
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise IncompatibleArtifactError(
                f"expected {name!r} as {what} to be {expected.get(name)}; it is {found.get(name)}"
            )
