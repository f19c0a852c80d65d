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

from ..cache_types import CacheType, stored_size
from ..errors import UnsupportedModelError
from .states import CachePart, CompositeCache, StateStack
from .unseen_image import UnseenImage

Kind = Literal["key", "value"]

# How caches are stored: b is the batch, h the heads, s the slots, d the size of a head.
_STORED_AXES = {"key": "bhsd", "value": "bhds"}


@dataclass(frozen=True)
class CacheTensor:
    """One layer's keys or values.

    Attributes:
        name: Its name in every signature, ``kv_cache_k_{layer}`` or ``kv_cache_v_{layer}``.
        kind: Whether it holds keys or values.
        logical_shape: The form that Keras code sees, ``(1, S, Hkv, D)`` or ``(1, Hkv, S, D)``.
        axes: What its axes are, ``"bshd"`` or ``"bhsd"``.
        extent: Heads and head size that the layer fills, where Keras gives it more; else None.
        dtype: The type in which it is stored; Keras sees float32.
    """

    name: str
    kind: Kind
    logical_shape: tuple[int, int, int, int]
    axes: str = "bshd"
    extent: tuple[int, int] | None = None
    dtype: CacheType = "float32"

    @property
    def slots(self) -> int:
        """How many tokens it holds, S."""
        return self.logical_shape[self.axes.index("s")]

    @property
    def whole_extent(self) -> tuple[int, int]:
        """Heads and head size that Keras sees."""
        heads, size = (self.logical_shape[self.axes.index(axis)] for axis in "hd")
        return heads, size

    @property
    def stored_extent(self) -> tuple[int, int]:
        """Heads and head size that are stored, without what int8 adds to a head."""
        return self.extent or self.whole_extent

    @property
    def permutation(self) -> tuple[int, ...]:
        """Axes that turn the logical form into the stored one."""
        return tuple(self.axes.index(axis) for axis in _STORED_AXES[self.kind])

    @property
    def inverse_permutation(self) -> tuple[int, ...]:
        """Axes that turn the stored form into the logical one."""
        return tuple(_STORED_AXES[self.kind].index(axis) for axis in self.axes)

    @property
    def slot_axis(self) -> int:
        """The axis of ``shape`` along which tokens lie."""
        return _STORED_AXES[self.kind].index("s")

    @property
    def size_axis(self) -> int:
        """The axis of ``shape`` along which the numbers of one head and token lie."""
        return _STORED_AXES[self.kind].index("d")

    @property
    def shape(self) -> tuple[int, ...]:
        """Stored form: keys ``(1, Hkv, S, D)``, values ``(1, Hkv, D, S)``; D + 1 in int8."""
        heads, size = self.stored_extent
        size = stored_size(size, self.dtype)
        sizes = dict(zip("bshd", (1, self.slots, heads, size), strict=True))
        return tuple(sizes[axis] for axis in _STORED_AXES[self.kind])

    def with_slots(self, slots: int) -> CacheTensor:
        """Return the same tensor for a context of another length."""
        heads, size = self.whole_extent
        sizes = {"b": 1, "s": slots, "h": heads, "d": size}
        batch, second, third, last = (sizes[axis] for axis in self.axes)
        return replace(self, logical_shape=(batch, second, third, last))


@dataclass(frozen=True)
class CacheStructure:
    """How a model nests its cache, and the per-layer tensors that it is made of.

    Attributes:
        places: Keys and values, layer by layer, as Keras has them.
        stacked: True for one tensor ``[1, L, 2, ...]``, False for a tuple of ``(key, value)``.
        unused: Names of those that carry nothing from call to call: layers that read another
            layer's keys and values have a place in the cache all the same.
        explicit_mask: Whether the model must be told that every slot holds a real token.
        prefix_prefill: Whether a prompt is read in both directions, and so in one call.
    """

    places: tuple[CacheTensor, ...]
    stacked: bool
    unused: frozenset[str] = frozenset()
    explicit_mask: bool = False
    prefix_prefill: bool = False

    @property
    def tensors(self) -> tuple[CacheTensor, ...]:
        """The keys and values that callers carry from call to call."""
        return tuple(place for place in self.places if place.name not in self.unused)

    @property
    def slots(self) -> int:
        """How many tokens it holds, S."""
        return self.places[0].slots

    @property
    def exact_prefill(self) -> bool:
        """Whether a pad would be remembered: no, the next token takes its slot."""
        return False

    def with_slots(self, slots: int) -> CacheStructure:
        """Return the same structure for a context of another length."""
        return replace(self, places=tuple(place.with_slots(slots) for place in self.places))

    def with_dtype(self, dtype: CacheType) -> CacheStructure:
        """Return the same structure, stored in another type."""
        return replace(self, places=tuple(replace(place, dtype=dtype) for place in self.places))

    def pack(self, tensors: Mapping[str, Any]) -> Any:
        """Nest per-layer logical tensors the way that ``call_with_cache`` expects them."""
        leaves = [
            tf.zeros(place.logical_shape) if place.name in self.unused else tensors[place.name]
            for place in self.places
        ]
        pairs = list(zip(leaves[::2], leaves[1::2], strict=True))
        if not self.stacked:
            return tuple(pairs)
        return tf.stack([tf.stack(pair, axis=1) for pair in pairs], axis=1)

    def unpack(self, cache: Any) -> dict[str, Any]:
        """Take the per-layer logical tensors out of what ``call_with_cache`` returned."""
        if self.stacked:
            leaves = [cache[:, i // 2][:, i % 2] for i in range(len(self.places))]
        else:
            leaves = tf.nest.flatten(cache)
        return {place.name: leaf for place, leaf in zip(self.places, leaves, strict=True)}


Cache: TypeAlias = CacheStructure | CompositeCache


class _TextOnly(dict[str, Any]):
    """The inputs of ``generate_step`` for a text and nothing else, save an image that is not used.

    Families have further ids and masks of the text, with names that end alike.
    """

    def __init__(self, length: int, image: UnseenImage | None, model_name: str) -> None:
        ids = tf.zeros([1, length], tf.int32)
        super().__init__(token_ids=ids, padding_mask=tf.cast(ids, tf.bool))
        if image:
            self["images"] = tf.zeros(image.shape)
        self._model_name = model_name

    def __missing__(self, key: str) -> Any:
        for known, value in self.items():
            if key.endswith(known):
                return value
        raise UnsupportedModelError(
            f"expected {self._model_name} to generate from token_ids and padding_mask alone; it "
            f"needs {key!r} as well, which no file of this library takes"
        )


class _Recorded(Exception):  # noqa: N818 - carries a result out of a trace, it is no failure
    def __init__(self, cache: Any) -> None:
        super().__init__()
        self.cache = cache


def probe_cache(model: Any, context_length: int) -> Cache:
    """Say which cache the model would use for a context of ``context_length`` tokens.

    Without slots for an image that it can do without.

    Raises:
        UnsupportedModelError: The model has no ``call_with_cache``, generates from more than a
            text, or its cache is neither made of keys and values ``[1, S, H, D]`` or
            ``[1, H, S, D]`` per layer nor a tuple with states of another form.
    """
    model_name, image = type(model).__name__, UnseenImage.of(model)
    slots = context_length + (image.slots if image else 0)
    signature = inspect.signature(model.call_with_cache)

    def record(*args: Any, **kwargs: Any) -> None:
        raise _Recorded(signature.bind(*args, **kwargs).arguments.get("cache"))

    @tf.function(autograph=False)
    def first_step() -> None:
        model.generate_step(_TextOnly(context_length, image, model_name))

    # Keras guards attributes of models, so the recorder goes in, and out, behind its back.
    object.__setattr__(model, "call_with_cache", record)
    try:
        first_step.get_concrete_function()
    except _Recorded as recorded:
        cache = recorded.cache
    else:
        raise UnsupportedModelError(
            f"{model_name}.generate_step was expected to use call_with_cache and did "
            "not; this layout needs a model that decodes with a cache"
        )
    finally:
        object.__delattr__(model, "call_with_cache")
    if isinstance(cache, (tuple, list)) and cache and all(map(tf.is_tensor, cache)):
        layers = getattr(model.backbone, "num_layers", None)
        return _composite(cache, context_length, layers, model_name)
    if any(list(leaf.shape).count(slots) > 1 for leaf in tf.nest.flatten(cache)):
        # As many heads, or layers, as slots: another length tells which axis has the slots.
        return probe_cache(model, context_length + 1).with_slots(context_length)
    return _describe(cache, slots, model_name).with_slots(context_length)


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
    return CompositeCache(tuple(parts), nest, context_length)


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
    known = known and all(len(s) == 4 and s[0] == 1 and context_length in s[1:3] for s in leaves)
    if not known or dtypes != {tf.float32}:
        found = [f"{leaf.dtype.name}{list(leaf.shape)}" for leaf in tf.nest.flatten(cache)]
        raise UnsupportedModelError(
            f"expected {model_name} to cache float32 keys and values of shape "
            f"[1, {context_length}, heads, head size] or [1, heads, {context_length}, head size] "
            f"per layer; found {', '.join(found[:3])}"
        )
    tensors = tuple(
        CacheTensor(
            f"kv_cache_{'kv'[i % 2]}_{i // 2}",
            "value" if i % 2 else "key",
            shape,
            "bshd" if shape[1] == context_length else "bhsd",
        )
        for i, shape in enumerate(leaves)
    )
    return CacheStructure(tensors, stacked=stacked)
