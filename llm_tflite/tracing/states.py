"""Caches of which a part is no key-value cache: states that every token changes as a whole.

A state has no slots. A pad that is read changes it for good, so that no call may be padded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import tensorflow as tf

from ..cache_types import CacheType


class CarriedTensor(Protocol):
    """One tensor of a cache."""

    @property
    def name(self) -> str:
        """Its name in every signature."""

    @property
    def kind(self) -> Literal["key", "value", "state"]:
        """What it holds."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its stored form."""

    @property
    def slot_axis(self) -> int | None:
        """The axis of ``shape`` along which tokens lie; None where all of them share it."""

    @property
    def dtype(self) -> CacheType:
        """The type in which it is stored."""


class CachePart(Protocol):
    """Some tensors of a cache, and how the model nests them."""

    @property
    def tensors(self) -> tuple[Any, ...]:
        """What callers carry from one call to the next."""

    def with_slots(self, slots: int) -> Any:
        """Return the same part for a context of another length."""

    def with_dtype(self, dtype: CacheType) -> Any:
        """Return the same part with keys and values in another type."""

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Nest tensors the way that ``call_with_cache`` expects them."""

    def unpack(self, cache: Any) -> dict[str, Any]:
        """Take the tensors out of what ``call_with_cache`` returned."""


@dataclass(frozen=True)
class StateTensor:
    """What one layer remembers of all tokens so far.

    Attributes:
        index: Its number among the states of the model, those of the first layer first.
        shape: As the model has it, without the axis of layers.
    """

    index: int
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """Its name in every signature: LiteRT-LM 0.18 carries states of this name only."""
        return f"kv_cache_c_{self.index}"

    @property
    def kind(self) -> Literal["state"]:
        """That it is a state."""
        return "state"

    @property
    def slot_axis(self) -> None:
        """Tokens have no places of their own."""

    @property
    def dtype(self) -> CacheType:
        """Rounded once per token, the same numbers would be wrong a little more with each."""
        return "float32"


@dataclass(frozen=True)
class StateStack:
    """One tensor of states, cut into those of each layer where it has an axis of layers.

    Attributes:
        tensors: The states, layer by layer.
        layered: Whether the model stacks them along the second axis.
    """

    tensors: tuple[StateTensor, ...]
    layered: bool

    @staticmethod
    def of(number: int, kinds: int, shape: tuple[int, ...], layers: int | None) -> StateStack:
        """Describe one tensor of states.

        Args:
            number: Which of the model's tensors of states it is.
            kinds: How many there are.
            shape: Its shape.
            layers: How many layers the model has, if that is known.
        """
        if len(shape) < 3 or shape[1] != layers:
            return StateStack((StateTensor(kinds * (layers or 0) + number, shape),), layered=False)
        each = (shape[0], *shape[2:])
        states = tuple(StateTensor(kinds * layer + number, each) for layer in range(layers))
        return StateStack(states, layered=True)

    def with_slots(self, slots: int) -> StateStack:
        """A state is as large for any context."""
        del slots
        return self

    def with_dtype(self, dtype: CacheType) -> StateStack:
        """A state is float32 beside keys and values of any type."""
        del dtype
        return self

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Stack the layers' states as the model has them."""
        states = [tensors[state.name] for state in self.tensors]
        return tf.stack(states, axis=1) if self.layered else states[0]

    def unpack(self, cache: Any) -> dict[str, Any]:
        """Take the states of each layer out of the model's tensor."""
        if not self.layered:
            return {self.tensors[0].name: cache}
        return {state.name: cache[:, i] for i, state in enumerate(self.tensors)}


@dataclass(frozen=True)
class CompositeCache:
    """A tuple or list of key-value stacks and states.

    Attributes:
        parts: Its elements.
        nest: ``tuple`` or ``list``.
        slots: How many tokens a text may have.
        idle: Names of tensors that no layer changes: a layer with a state has no use for the keys
            and values that the stack holds for it. They stay zeros, inside of the graph.
        explicit_mask: Whether the model must be told that every slot holds a real token: no model
            with a state is known to ask for it.
        prefix_prefill: Whether a prompt is read in both directions: nor does any do that.
    """

    parts: tuple[CachePart, ...]
    nest: type[tuple[Any, ...]] | type[list[Any]]
    slots: int
    idle: frozenset[str] = frozenset()
    explicit_mask: bool = False
    prefix_prefill: bool = False

    @property
    def tensors(self) -> tuple[CarriedTensor, ...]:
        """What callers carry from one call to the next, states last and layer by layer."""
        used = [t for part in self.parts for t in part.tensors if t.name not in self.idle]
        return tuple(sorted(used, key=lambda t: t.index if t.kind == "state" else -1))

    @property
    def exact_prefill(self) -> bool:
        """Whether a pad would be remembered."""
        return any(tensor.kind == "state" for tensor in self.tensors)

    def with_slots(self, slots: int) -> CompositeCache:
        """Return the same structure for a context of another length."""
        return replace(self, parts=tuple(p.with_slots(slots) for p in self.parts), slots=slots)

    def with_dtype(self, dtype: CacheType) -> CompositeCache:
        """Return the same structure with keys and values in another type; states stay float32."""
        return replace(self, parts=tuple(part.with_dtype(dtype) for part in self.parts))

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Nest tensors the way that ``call_with_cache`` expects them; idle ones are made here."""
        made = {
            t.name: tf.zeros(getattr(t, "logical_shape", t.shape))
            for part in self.parts
            for t in part.tensors
            if t.name in self.idle
        }
        return self.nest(part.pack({**tensors, **made}) for part in self.parts)

    def unpack(self, cache: Any) -> dict[str, Any]:
        """Take the tensors out of what ``call_with_cache`` returned."""
        unpacked: dict[str, Any] = {}
        for part, element in zip(self.parts, cache, strict=True):
            unpacked |= part.unpack(element)
        return {name: tensor for name, tensor in unpacked.items() if name not in self.idle}
