"""One cache as model code sees it: sliced, transposed, expanded, repeated, and never copied.

Axes have letters: ``b`` the batch, ``s`` the slots, ``h`` the key-value heads, ``d`` the size of a
head, ``1`` an axis of one and ``g`` the query heads that share a head.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import tensor_util

from .probe import CacheTensor


@dataclass(frozen=True)
class CacheView:
    """A cache in its stored form, and what was done to its logical one.

    Attributes:
        stored: The tensor that is kept.
        tensor: Which cache it is.
        axes: What the axes of the logical form have become.
        extent: Heads and head size that are seen.
        written: Heads and head size that this call wrote to, at most.
        repeats: Query heads per head where they have become one axis.
    """

    stored: tf.Tensor
    tensor: CacheTensor
    axes: str
    extent: tuple[int, int]
    written: tuple[int, int] = (0, 0)
    repeats: int = 1

    @classmethod
    def of(
        cls, stored: tf.Tensor, tensor: CacheTensor, written: tuple[int, int] = (0, 0)
    ) -> CacheView:
        """The view of a cache that nothing was done to."""
        return cls(stored, tensor, tensor.axes, tensor.whole_extent, written)

    @property
    def untouched(self) -> bool:
        """Whether it is what Keras was given, or wrote to."""
        changed = (self.axes, self.extent, self.repeats)
        return changed == (self.tensor.axes, self.tensor.whole_extent, 1)

    @property
    def stored_axes(self) -> str:
        """The axes that the stored form has too, in the order of the logical one."""
        return self.axes.replace("1", "").replace("g", "")

    def visible(self) -> tf.Tensor | None:
        """The stored form of what is seen.

        None where more is seen than is stored, or a part of heads that end in their scales.
        """
        extent, stored = self.extent, self.tensor.stored_extent
        if extent == stored:
            return self.stored
        if extent[0] > stored[0] or extent[1] > stored[1] or self.tensor.dtype == "int8":
            return None
        ends = dict(zip("hd", extent, strict=True))
        order = "".join(self.tensor.axes[axis] for axis in self.tensor.permutation)
        return self.stored[tuple(slice(ends.get(axis)) for axis in order)]

    def repeated(self, axis: int, repeats: int) -> CacheView | None:
        """The view after ``repeat`` along an axis; None where it is no sharing of heads."""
        if self.repeats != 1 or "g" in self.axes:
            return None
        if self.axes[axis] == "h":
            return replace(self, repeats=repeats)
        if self.axes[axis] == "1":
            return replace(self, axes=f"{self.axes[:axis]}g{self.axes[axis + 1 :]}")
        return None

    def through(self, tensor: tf.Tensor) -> CacheView | None:
        """The view after the operation that made ``tensor`` of it; None for an unknown one."""
        op = tensor.op
        if op.type == "Transpose":
            axes = tensor_util.constant_value(op.inputs[1])
            return None if axes is None else replace(self, axes="".join(self.axes[i] for i in axes))
        if op.type == "ExpandDims":
            axis = tensor_util.constant_value(op.inputs[1])
            if axis is None:
                return None
            at = int(axis) % len(tensor.shape)
            return replace(self, axes=f"{self.axes[:at]}1{self.axes[at:]}")
        before, after = list(op.inputs[0].shape), list(tensor.shape)
        if op.type == "Reshape":
            return self._merged(before, after)
        if op.type == "StridedSlice" and _takes_first(op):
            return self._narrowed(before, after)
        return None

    def _merged(self, before: list[int], after: list[int]) -> CacheView | None:
        """Heads and the query heads that share them become one axis."""
        at = self.axes.find("hg")
        if at < 0 or after != [*before[:at], before[at] * before[at + 1], *before[at + 2 :]]:
            return None
        return replace(self, axes=self.axes.replace("g", ""), repeats=before[at + 1])

    def _narrowed(self, before: list[int], after: list[int]) -> CacheView | None:
        """The first heads, and the first part of each."""
        changed = {
            axis for axis, old, new in zip(self.axes, before, after, strict=True) if old != new
        }
        if not changed <= {"h", "d"} or (changed and self.repeats != 1):
            return None
        heads, size = (after[self.axes.index(axis)] for axis in "hd")
        return replace(self, extent=(heads // self.repeats, size))


def _takes_first(op: Any) -> bool:
    """Whether a StridedSlice takes the first elements of its axes, and every one of them."""
    begin, strides = (tensor_util.constant_value(op.inputs[i]) for i in (1, 3))
    if begin is None or strides is None or op.get_attr("shrink_axis_mask"):
        return False
    anyhow = op.get_attr("begin_mask") | op.get_attr("ellipsis_mask")
    starts = all(start == 0 or anyhow >> i & 1 for i, start in enumerate(begin))
    return starts and bool((strides == 1).all()) and not op.get_attr("new_axis_mask")
