"""The bytes form of a file of the string form: the same graph and weights, its strings cut off.

So a file with string tensors can be checked where no runtime has the operations that make them.
"""

from __future__ import annotations

import mmap
import shutil
from pathlib import Path
from typing import Any, BinaryIO

from ..flatbuffer.cut import cut
from ..flatbuffer.model import pack, parse
from ..layouts.generate import OUTPUTS

# Weights keep their alignment.
_PAGE = 4096


def write_bytes_twin(path: Path, stream: BinaryIO) -> None:
    """Write the bytes form of the ``.tflite`` file at ``path``, as ``write_generate`` left it.

    Args:
        path: A file of the string form.
        stream: An empty binary file.

    Raises:
        ConversionError: The graph of the bytes depends on the strings around it.
    """
    with path.open("rb") as source:
        # Not closed here: arrays of the parsed model point into it until they are gone.
        mapped = mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ)
        head, weights_begin = _twin_head(mapped)
        stream.write(head)
        source.seek(weights_begin)
        shutil.copyfileobj(source, stream, 1 << 20)
    stream.flush()


def _twin_head(mapped: mmap.mmap) -> tuple[bytes, int]:
    """The twin's flatbuffer, padded to a page, and where the weights of the original begin."""
    model: Any = parse(mapped)
    (signature,) = model.signatureDefs
    tensors = model.subgraphs[signature.subgraphIndex].tensors
    places = {bytes(tensor.name).decode(): index for index, tensor in enumerate(tensors)}
    inputs = {entry.name.decode(): int(entry.tensorIndex) for entry in signature.inputs}
    outputs = {name: places[name] for name in OUTPUTS}
    cut(
        model,
        inputs=inputs | {"prompt": places["prompt_bytes"]},
        outputs=outputs | {"text": places["text_bytes"]},
        shown=1,
    )
    outside = [buffer for buffer in model.buffers if buffer.offset > 1]
    begin = min(buffer.offset for buffer in outside) // _PAGE * _PAGE
    size = -(-len(pack(model)) // _PAGE) * _PAGE
    for buffer in outside:
        buffer.offset += size - begin
    return pack(model).ljust(size, b"\0"), begin
