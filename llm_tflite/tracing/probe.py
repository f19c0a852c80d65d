"""Learn the structure of a model's cache by running its own ``generate_step`` up to the first use.

KerasHub families share one seam, ``call_with_cache(token_ids, cache, cache_update_index, ...)``.
Recording the first ``cache`` that ``generate_step`` passes to it replaces a table of shapes per
family. The run happens while tracing, so nothing the size of a cache is ever allocated.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import tensorflow as tf

from ..errors import UnsupportedModelError
from .states import CachePart, CompositeCache, StateStack

Kind = Literal["key", "value"]


@dataclass(frozen=True)
class CacheTensor:
    """One layer's keys or values.

    Attributes:
        name: Its name in every signature, ``kv_cache_k_{layer}`` or ``kv_cache_v_{layer}``.
        kind: Whether it holds keys or values.
        logical_shape: ``(1, S, Hkv, D)``, the form that Keras code sees.
    """

    name: str
    kind: Kind
    logical_shape: tuple[int, int, int, int]

    @property
    def slots(self) -> int:
        """How many tokens it holds, S."""
        return self.logical_shape[1]

    @property
    def permutation(self) -> tuple[int, int, int, int]:
        """Axes that turn the logical form into the stored one."""
        return (0, 2, 1, 3) if self.kind == "key" else (0, 2, 3, 1)

    @property
    def inverse_permutation(self) -> tuple[int, int, int, int]:
        """Axes that turn the stored form into the logical one."""
        return (0, 2, 1, 3) if self.kind == "key" else (0, 3, 1, 2)

    @property
    def slot_axis(self) -> int:
        """The axis of ``shape`` along which tokens lie."""
        return self.permutation.index(1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored form: keys ``(1, Hkv, S, D)``, values ``(1, Hkv, D, S)``."""
        return tuple(self.logical_shape[axis] for axis in self.permutation)


@dataclass(frozen=True)
class CacheStructure:
    """How a model nests its cache, and the per-layer tensors that it is made of.

    Attributes:
        tensors: Keys and values, layer by layer.
        stacked: True for one tensor ``[1, L, 2, S, H, D]``, False for a tuple of ``(key, value)``.
        dtype: Element type, always ``float32`` today.
    """

    tensors: tuple[CacheTensor, ...]
    stacked: bool
    dtype: tf.DType

    @property
    def slots(self) -> int:
        """How many tokens a text may have."""
        return self.tensors[0].slots

    @property
    def exact_prefill(self) -> bool:
        """Whether a pad would be remembered: no, the next token takes its slot."""
        return False

    def with_slots(self, slots: int) -> CacheStructure:
        """Return the same structure for a context of another length."""
        return replace(
            self,
            tensors=tuple(
                replace(t, logical_shape=(1, slots, *t.logical_shape[2:])) for t in self.tensors
            ),
        )

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Nest per-layer logical tensors the way that ``call_with_cache`` expects them."""
        pairs = [
            (tensors[key.name], tensors[value.name])
            for key, value in zip(self.tensors[::2], self.tensors[1::2], strict=True)
        ]
        if not self.stacked:
            return tuple(pairs)
        return tf.stack([tf.stack(pair, axis=1) for pair in pairs], axis=1)

    def unpack(self, cache: Any) -> dict[str, Any]:
        """Take the per-layer logical tensors out of what ``call_with_cache`` returned."""
        if self.stacked:
            leaves = [cache[:, i // 2][:, i % 2] for i in range(len(self.tensors))]
        else:
            leaves = tf.nest.flatten(cache)
        return {tensor.name: leaf for tensor, leaf in zip(self.tensors, leaves, strict=True)}


Cache: TypeAlias = CacheStructure | CompositeCache


class _TextInputs(dict[str, Any]):
    """What ``generate_step`` is given; families have further ids and masks of their own."""

    def __init__(self, ids: tf.Tensor) -> None:
        super().__init__(token_ids=ids, padding_mask=tf.cast(ids, tf.bool))

    def __missing__(self, name: str) -> tf.Tensor:
        for known, value in self.items():
            if name.endswith(known):
                return value
        raise UnsupportedModelError(
            f"expected generate_step to read a text, as token_ids and padding_mask; it asks for "
            f"{name!r} too, which this layout does not give"
        )


class _Recorded(Exception):  # noqa: N818 - carries a result out of a trace, it is no failure
    def __init__(self, cache: Any) -> None:
        super().__init__()
        self.cache = cache


def probe_cache(model: Any, context_length: int) -> Cache:
    """Say which cache the model would use for a context of ``context_length`` tokens.

    Raises:
        UnsupportedModelError: The model has no ``call_with_cache``, or its cache is neither made of
            keys and values ``[1, S, H, D]`` per layer nor a tuple with states of another form.
    """
    signature = inspect.signature(model.call_with_cache)

    def record(*args: Any, **kwargs: Any) -> None:
        raise _Recorded(signature.bind(*args, **kwargs).arguments.get("cache"))

    @tf.function(autograph=False)
    def first_step() -> None:
        ids = tf.zeros([1, context_length], tf.int32)
        model.generate_step(_TextInputs(ids))

    # Keras guards attributes of models, so the recorder goes in, and out, behind its back.
    object.__setattr__(model, "call_with_cache", record)
    try:
        first_step.get_concrete_function()
    except _Recorded as recorded:
        cache = recorded.cache
    else:
        raise UnsupportedModelError(
            f"{type(model).__name__}.generate_step was expected to use call_with_cache and did "
            "not; this layout needs a model that decodes with a cache"
        )
    finally:
        object.__delattr__(model, "call_with_cache")
    name = type(model).__name__
    if isinstance(cache, (tuple, list)) and cache and all(map(tf.is_tensor, cache)):
        layers = getattr(model.backbone, "num_layers", None)
        return _composite(cache, context_length, layers, name)
    return _describe(cache, context_length, name)


def _composite(
    cache: tuple[Any, ...] | list[Any], context_length: int, layers: int | None, model_name: str
) -> CompositeCache:
    shapes = [tuple(element.shape) for element in cache]
    stacks = [len(s) == 6 and s[2:4] == (2, context_length) for s in shapes]
    parts: list[CachePart] = []
    for element, shape, stack in zip(cache, shapes, stacks, strict=True):
        if stack:
            parts.append(_describe(element, context_length, model_name))
            continue
        if element.dtype != tf.float32 or None in shape:
            raise UnsupportedModelError(
                f"expected {model_name} to keep states of float32 in tensors of fixed shapes; "
                f"found {element.dtype.name}{list(shape)}"
            )
        number = len(parts) - stacks[: len(parts)].count(True)
        parts.append(StateStack.of(number, stacks.count(False), shape, layers))
    nest = list if isinstance(cache, list) else tuple
    return CompositeCache(tuple(parts), nest, context_length, tf.float32)


def _describe(cache: Any, context_length: int, model_name: str) -> CacheStructure:
    stacked = tf.is_tensor(cache)
    if stacked:
        shape = tuple(cache.shape)
        known = len(shape) == 6 and shape[2] == 2
        leaves = [(1, *shape[3:])] * (2 * shape[1]) if known else []
        dtypes = {cache.dtype}
    else:
        pairs = cache if isinstance(cache, (tuple, list)) else ()
        flat = tf.nest.flatten(cache)
        known = bool(pairs) and len(flat) == 2 * len(pairs)
        leaves = [tuple(leaf.shape) for leaf in flat]
        dtypes = {leaf.dtype for leaf in flat}
    known = known and all(len(s) == 4 and s[:2] == (1, context_length) for s in leaves)
    if not known or dtypes != {tf.float32}:
        found = [f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in tf.nest.flatten(cache)]
        raise UnsupportedModelError(
            f"expected {model_name} to cache float32 keys and values of shape "
            f"[1, {context_length}, heads, head size] per layer; found {', '.join(found[:3])}"
        )
    tensors = tuple(
        CacheTensor(f"kv_cache_{'kv'[i % 2]}_{i // 2}", "value" if i % 2 else "key", shape)
        for i, shape in enumerate(leaves)
    )
    return CacheStructure(tensors, stacked=stacked, dtype=tf.float32)
