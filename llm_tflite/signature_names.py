"""The names under which an artifact's graphs are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

# Tokens per call, None for the graph that decodes; slots of its caches, None for the whole context.
Variant: TypeAlias = tuple[int | None, int | None]

# The graph of a file that has one only, as TensorFlow names it.
SERVING = "serving_default"


def signature_name(length: int | None, slots: int | None = None) -> str:
    """Name the graph that reads ``length`` tokens at once.

    Args:
        length: Tokens per call of a prefill graph; None for the one that decodes.
        slots: How many tokens its caches hold; None for the whole context. LiteRT-LM takes any name
            that begins with ``prefill`` or ``decode`` for a graph with caches of the whole context.
    """
    name = "decode" if length is None else f"prefill_{length}"
    return name if slots is None else f"cache_{slots}_{name}"


def signature_variants(
    prefill_lengths: Sequence[int], short_caches: Sequence[int]
) -> Iterator[Variant]:
    """Length and slots of every graph of an artifact, ``decode`` first."""
    for slots in (None, *short_caches):
        yield None, slots
        yield from ((t, slots) for t in prefill_lengths if slots is None or t <= slots)
