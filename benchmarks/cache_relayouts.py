"""Operations of a decode graph that move a whole cache about."""

from __future__ import annotations

from collections import Counter
from math import prod
from pathlib import Path
from typing import Any

from llm_tflite.artifact import Artifact
from llm_tflite.flatbuffer.model import operator_name, parse

_RELAYOUTS = ("TRANSPOSE", "TILE")


def cache_relayouts(path: Path, slots: int) -> dict[str, int]:
    """Count what is transposed or repeated for every token and is as large as a cache.

    Args:
        path: An artifact of the ``prefill_decode`` layout.
        slots: The length of its caches.
    """
    artifact = Artifact.open(path)
    sizes = [prod(cache.shape) for cache in artifact.manifest.cache if slots in cache.shape]
    if not sizes:  # a model whose memory has one size for any text
        return {}
    model = parse(artifact.read_model())
    index = next(s.subgraphIndex for s in model.signatureDefs if s.signatureKey == b"decode")
    graph = model.subgraphs[index]
    return dict(
        Counter(
            name
            for operator in graph.operators
            if (name := operator_name(model, operator)) in _RELAYOUTS
            and any(_is_large(graph, i, slots, min(sizes)) for i in operator.outputs)
        )
    )


def _is_large(graph: Any, tensor: int, slots: int, size: int) -> bool:
    shape = [int(dim) for dim in graph.tensors[tensor].shape]
    return slots in shape and prod(shape) >= size
