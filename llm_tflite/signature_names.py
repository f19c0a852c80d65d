"""The names under which an artifact's graphs are found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

# Tokens per call, None for the graph that decodes; slots of its caches, None for the whole context.
Variant: TypeAlias = tuple[int | None, int | None]

# The graph of a file that has one only, as TensorFlow names it.
SERVING = "serving_default"


def signature_name(
    length: int | None,
    slots: int | None = None,
    *,
    exact: bool = False,
    whole: int | None = None,
) -> str:
    """Name the graph that reads ``length`` tokens at once.

    Args:
        length: Tokens per call of a prefill graph; None for the one that decodes.
        slots: How many tokens its caches hold; None for the whole context. LiteRT-LM takes any name
            that begins with ``prefill`` or ``decode`` for a graph with caches of the whole context.
        exact: Whether a prefill graph must not be padded. LiteRT-LM pads whichever it knows, so it
            is shown the one that reads one token.
        whole: Tokens of the context, where a prompt must be read in one call. LiteRT-LM cuts a
            prompt that is longer than one of the graphs that it knows, so it is shown the longest.
    """
    name = "decode" if length is None else f"prefill_{length}"
    if slots is not None:
        return f"cache_{slots}_{name}"
    if exact and length not in (None, 1):
        return f"exact_{name}"
    return f"whole_{name}" if whole and length not in (None, whole) else name


def prefill_ladder(
    prefill_lengths: Sequence[int], short_caches: Sequence[int], slots: int | None
) -> list[int]:
    """Lengths of the prefill graphs that an artifact has for caches of a size.

    Between the smallest caches and those of the whole context, which texts pass through, only the
    longest: each graph takes time to convert and memory to run.

    Args:
        prefill_lengths: All that it has.
        short_caches: Sizes of its short caches, rising.
        slots: The size; None for the whole context.
    """
    fitting = [length for length in prefill_lengths if slots is None or length <= slots]
    return fitting if slots is None or slots == short_caches[0] else fitting[-1:]


def signature_variants(
    prefill_lengths: Sequence[int], short_caches: Sequence[int]
) -> Iterator[Variant]:
    """Length and slots of every graph of an artifact, ``decode`` first."""
    for slots in (None, *short_caches):
        yield None, slots
        for length in prefill_ladder(prefill_lengths, short_caches, slots):
            yield length, slots
