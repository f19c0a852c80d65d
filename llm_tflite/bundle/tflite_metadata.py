"""The ``.tflite`` form of an artifact: tokenizer and manifest travel in the model's own metadata.

A model keeps two metadata entries in reserve from the start. Their buffers lie outside the
flatbuffer (``Buffer.offset`` and ``Buffer.size``), so wrapping a model means appending two blobs
and setting four numbers, and unwrapping means setting them back: no flatbuffer is rebuilt. An
offset "is only valid if > 1", so 1 stands for "not in use" (``tflite/schema.fbs`` of
github.com/google-ai-edge/LiteRT, table ``Buffer``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from llm_tflite.errors import CorruptArtifactError, IncompatibleArtifactError
from llm_tflite.manifest import MAX_MANIFEST_BYTES, Manifest

from .contents import Contents, SectionWriter, Span
from .flat_tables import FlatBuffer

FILE_IDENTIFIER = b"TFL3"

_ENTRIES = {"tokenizer": "llm_tflite.tokenizer", "manifest": "llm_tflite.manifest"}
_UNSET = (1).to_bytes(8, "little")
_ALIGNMENT = 16
_MAX_METADATA_ENTRIES = 1024
# Fields of the schema's tables.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_OFFSET, _BUFFER_SIZE = 1, 2


@dataclass(frozen=True)
class Slot:
    """Where a reserved entry keeps its two numbers in the file, and what they are."""

    offset_position: int
    size_position: int
    span: Span | None


def reserve_metadata(model: Any) -> None:
    """Give a model the entries that ``write_tflite`` fills in.

    Args:
        model: A ``ModelT`` of the TFLite schema, about to be written.
    """
    from ai_edge_litert import schema_py_generated as schema

    model.metadata = list(model.metadata or [])
    for name in _ENTRIES.values():
        buffer = schema.BufferT()
        buffer.offset = buffer.size = 1
        model.buffers.append(buffer)
        entry = schema.MetadataT()
        entry.name = name
        entry.buffer = len(model.buffers) - 1
        model.metadata.append(entry)


def find_slots(stream: BinaryIO) -> dict[str, Slot]:
    """Find the reserved entries of a model; a model of another program has none.

    Raises:
        CorruptArtifactError: It is not a ``.tflite`` file, or it was cut or altered.
    """
    file_size = stream.seek(0, 2)
    flat = FlatBuffer(stream, 0, file_size)
    if file_size < 8 or flat.read(4, 4) != FILE_IDENTIFIER:
        raise CorruptArtifactError("expected a .tflite file; it does not begin like one")
    model = flat.root()
    names = {entry: name for name, entry in _ENTRIES.items()}
    slots: dict[str, Slot] = {}
    for entry in model.items(_MODEL_METADATA, _MAX_METADATA_ENTRIES):
        name = names.get(entry.text(_METADATA_NAME))
        if name is None:
            continue
        buffer = model.item(_MODEL_BUFFERS, entry.number(_METADATA_BUFFER, 4))
        offset, size = buffer.position(_BUFFER_OFFSET), buffer.position(_BUFFER_SIZE)
        if name in slots or offset is None or size is None or offset % 8 or size % 8:
            raise CorruptArtifactError(f"the metadata entry {_ENTRIES[name]!r} is damaged")
        begin, length = buffer.number(_BUFFER_OFFSET, 8), buffer.number(_BUFFER_SIZE, 8)
        span = None if begin == length == 1 else Span(begin, begin + length)
        slots[name] = Slot(offset, size, span)
    return slots


def check_core(stream: BinaryIO) -> None:
    """Refuse a model that cannot become an artifact.

    Raises:
        IncompatibleArtifactError: It has no reserved metadata entries, or they are in use.
    """
    slots = find_slots(stream)
    if slots.keys() != _ENTRIES.keys() or any(slot.span for slot in slots.values()):
        raise IncompatibleArtifactError(
            "expected a model with two unused metadata entries (see reserve_metadata); "
            f"found {sorted(slots) or 'none'}"
        )


def write_tflite(
    stream: BinaryIO, core: Iterator[bytes], tokenizer: bytes | None, manifest: Manifest
) -> None:
    """Write a model with its tokenizer and manifest inside.

    Args:
        stream: An empty file, open for reading and writing.
        core: The model as ``check_core`` accepts it, in pieces.
        tokenizer: The tokenizer as its library reads it, or None.
        manifest: Its ``sections`` are replaced.
    """
    writer = SectionWriter(stream, _ALIGNMENT)
    writer.add("model", core)
    if tokenizer is not None:
        writer.add("tokenizer", [tokenizer])
    manifest = dataclasses.replace(manifest, sections=dict(writer.facts))
    writer.add("manifest", [manifest.to_bytes()])
    for name, slot in find_slots(stream).items():
        if name in writer.spans:
            span = writer.spans[name]
            for position, value in (
                (slot.offset_position, span.begin),
                (slot.size_position, span.size),
            ):
                stream.seek(position)
                stream.write(value.to_bytes(8, "little"))


def read_contents(stream: BinaryIO) -> Contents:
    """Find the manifest and the sections of one of our files.

    Raises:
        CorruptArtifactError: It was cut or altered.
        IncompatibleArtifactError: It is a ``.tflite`` file that another program wrote.
    """
    file_size = stream.seek(0, 2)
    slots = find_slots(stream)
    manifest_slot = slots.get("manifest")
    if manifest_slot is None or manifest_slot.span is None:
        raise IncompatibleArtifactError(
            "this .tflite file has no llm_tflite manifest: another program wrote it; "
            "run it with llm_tflite.open_interpreter or any TFLite runtime"
        )
    span = manifest_slot.span
    if span.end != file_size or span.size > MAX_MANIFEST_BYTES:
        raise CorruptArtifactError(
            f"expected the manifest at the end of {file_size:,} bytes; "
            f"it stands from {span.begin:,} to {span.end:,}"
        )
    stream.seek(span.begin)
    manifest = Manifest.from_bytes(stream.read(span.size))
    model = manifest.sections.get("model")
    sections = {"model": Span(0, model.size if model else 0)}
    for name, slot in slots.items():
        if name != "manifest" and slot.span is not None:
            sections[name] = slot.span
    at_rest = {
        position: _UNSET
        for slot in slots.values()
        for position in (slot.offset_position, slot.size_position)
    }
    contents = Contents(manifest, span, sections, at_rest)
    contents.check_shape(file_size)
    return contents
