"""The names under which an artifact's graphs are found."""

from __future__ import annotations

from collections.abc import Sequence


def signature_name(length: int | None, window: int | None = None) -> str:
    """Name the graph that reads ``length`` tokens at once.

    Args:
        length: Tokens per call of a prefill graph; None for the one that decodes.
        window: How many slots of the cache its attention reads; None for all of them. LiteRT-LM
            takes any name that begins with ``prefill`` or ``decode`` for a graph without such a
            limit.
    """
    name = "decode" if length is None else f"prefill_{length}"
    return name if window is None else f"window_{window}_{name}"


def windowed_lengths(prefill_lengths: Sequence[int], window: int) -> list[int]:
    """Which prefill lengths have a graph for ``window``: the longest that fits."""
    return [max(fitting)] if (fitting := [t for t in prefill_lengths if t <= window]) else []
