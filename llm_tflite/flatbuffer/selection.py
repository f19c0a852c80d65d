"""Let a model on disk show some of its signatures, without writing it anew.

Fields are those of ``tflite/schema.fbs`` of github.com/google-ai-edge/LiteRT.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from ..bundle.flat_tables import FlatBuffer, FlatTable
from ..errors import ConversionError

_MODEL_SUBGRAPHS, _MODEL_SIGNATURES = 2, 7
_SIGNATURE_KEY, _SIGNATURE_SUBGRAPH = 2, 4
_MAX_SIGNATURES = 1024


@contextmanager
def only_signatures(path: Path, names: Collection[str]) -> Iterator[None]:
    """Hide all signatures of a ``.tflite`` file but those, until the block ends.

    A runtime prepares every graph of the model that it opens, and keeps 31 MB for each of GPT-2
    XL's. Here the lists of graphs and of signatures are cut short: some numbers change, nothing
    moves, and the file is as it was when the block ends.

    Args:
        path: A file that nobody else reads; it must be closed by the end of the block.
        names: Signatures, each with a graph of its own.

    Raises:
        ConversionError: The file has no such signature.
    """
    with path.open("r+b") as stream:
        patches = _patches(stream, names)
        before = []
        for position, data in patches:
            stream.seek(position)
            before.append((position, stream.read(len(data))))
        _write(stream, patches)
        try:
            yield
        finally:
            _write(stream, before)


def _write(stream: BinaryIO, patches: list[tuple[int, bytes]]) -> None:
    for position, data in patches:
        stream.seek(position)
        stream.write(data)
    stream.flush()


def _patches(stream: BinaryIO, names: Collection[str]) -> list[tuple[int, bytes]]:
    model = FlatBuffer(stream, 0, os.fstat(stream.fileno()).st_size).root()
    signatures = model.items(_MODEL_SIGNATURES, _MAX_SIGNATURES)
    kept = [i for i, s in enumerate(signatures) if s.text(_SIGNATURE_KEY) in names]
    if len(kept) != len(names):
        found = [signature.text(_SIGNATURE_KEY) for signature in signatures]
        raise ConversionError(f"expected the signatures {sorted(names)} among {found}")
    # The first graph goes first: the field that says so is left out, and has no place to write to.
    kept.sort(key=lambda index: signatures[index].number(_SIGNATURE_SUBGRAPH, 4))
    graphs = [signatures[index].number(_SIGNATURE_SUBGRAPH, 4) for index in kept]
    patches = _shortened(model, _MODEL_SIGNATURES, kept)
    patches += _shortened(model, _MODEL_SUBGRAPHS, graphs)
    for number, index in enumerate(kept):
        field = signatures[index].position(_SIGNATURE_SUBGRAPH)
        if field is not None:
            patches.append((field, number.to_bytes(4, "little")))
    return patches


def _shortened(model: FlatTable, field: int, kept: list[int]) -> list[tuple[int, bytes]]:
    """Make a vector of tables one of only those items, in that order."""
    vector = model.target(field)
    if vector is None:
        return []
    patches = [(vector, len(kept).to_bytes(4, "little"))]
    for number, index in enumerate(kept):
        entry = vector + 4 + 4 * number  # offsets count from where they stand
        table = model.item(field, index).start
        patches.append((entry, (table - entry).to_bytes(4, "little")))
    return patches
