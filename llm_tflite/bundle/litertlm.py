"""Read a ``.litertlm`` file: its header, its sections and our manifest among them.

Format: ``schema/core/litertlm_header_schema.fbs`` and ``runtime/util/litert_lm_loader.cc`` of
github.com/google-ai-edge/LiteRT-LM.
"""

from __future__ import annotations

import enum
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from llm_tflite.errors import CorruptArtifactError, IncompatibleArtifactError
from llm_tflite.manifest import MAX_MANIFEST_BYTES, Manifest

from .contents import Contents, Span
from .flat_tables import FlatBuffer, FlatTable

MAGIC = b"LITERTLM"
MAJOR_VERSION = 1
BLOCK_BYTES = 16 * 1024
HEADER_END_POSITION = 24
HEADER_POSITION = 32
MODEL_TYPE_KEY = "model_type"
MODEL_TYPE = "tf_lite_prefill_decode"
# A generic section is ours when it carries this key.
MANIFEST_KEY, MANIFEST_VALUE = "llm_tflite", "manifest"

_MAX_HEADER_BYTES = 1 << 20
_MAX_ENTRIES = 4096
_STRING_VALUE = 9
# The largest tokenizer.json in use is about 35 MB; deflate cannot shrink more than 1032 times.
_MAX_TOKENIZER_BYTES = 256 << 20
_MAX_TOKENIZER_RATIO = 1032


class SectionType(enum.IntEnum):
    """``AnySectionDataType`` of the schema, as far as artifacts use it."""

    GENERIC = 1
    TFLITE_MODEL = 3
    SENTENCEPIECE = 4
    LLM_METADATA = 5
    HF_TOKENIZER_ZLIB = 6
    EXECUTOR_METADATA = 9


# Names of the sections in our manifest.
_SECTION_NAMES = {
    SectionType.TFLITE_MODEL: "model",
    SectionType.SENTENCEPIECE: "tokenizer",
    SectionType.LLM_METADATA: "llm_metadata",
    SectionType.HF_TOKENIZER_ZLIB: "tokenizer",
    SectionType.EXECUTOR_METADATA: "executor_metadata",
}


@dataclass(frozen=True)
class Section:
    """One section as the header lists it; types that we do not know are kept as numbers."""

    type: int
    span: Span
    items: Mapping[str, str]


@dataclass(frozen=True)
class Header:
    """The header of any ``.litertlm`` file, ours or not."""

    version: tuple[int, int, int]
    system: Mapping[str, str]
    sections: tuple[Section, ...]


def read_header(stream: BinaryIO) -> Header:
    """Read and check the header of a ``.litertlm`` file.

    Raises:
        CorruptArtifactError: It is not such a file, or it was cut or altered.
        IncompatibleArtifactError: It has a later major version.
    """
    file_size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(HEADER_POSITION)
    if start[: len(MAGIC)] != MAGIC or len(start) < HEADER_POSITION:
        raise CorruptArtifactError("expected a .litertlm file; it does not begin like one")
    major, minor, patch = (int.from_bytes(start[at : at + 4], "little") for at in (8, 12, 16))
    if major != MAJOR_VERSION:
        raise IncompatibleArtifactError(
            f"this library reads .litertlm version {MAJOR_VERSION}; the file has version {major}"
        )
    end = int.from_bytes(start[HEADER_END_POSITION:HEADER_POSITION], "little")
    if not HEADER_POSITION < end <= min(file_size, HEADER_POSITION + _MAX_HEADER_BYTES):
        raise CorruptArtifactError(f"the header ends at byte {end:,} of {file_size:,}")
    stream.seek(HEADER_POSITION)
    table = io.BytesIO(stream.read(end - HEADER_POSITION))
    root = FlatBuffer(table, 0, end - HEADER_POSITION).root()
    system, listed = root.table(0), root.table(1)
    sections = (
        tuple(_read_section(item) for item in listed.items(0, _MAX_ENTRIES)) if listed else ()
    )
    previous = end
    for section in sorted(sections, key=lambda s: s.span.begin):
        span = section.span
        if not previous <= span.begin <= span.end <= file_size or span.begin % BLOCK_BYTES:
            raise CorruptArtifactError(
                f"a section stands from byte {span.begin:,} to {span.end:,} of {file_size:,}: it "
                f"overlaps another, is not aligned, or the file was cut"
            )
        previous = span.end
    return Header((major, minor, patch), _strings(system, 0) if system else {}, sections)


def read_contents(stream: BinaryIO) -> Contents:
    """Find the manifest and the sections of one of our files.

    Raises:
        CorruptArtifactError: It was cut or altered.
        IncompatibleArtifactError: It is a ``.litertlm`` file that another program wrote.
    """
    header = read_header(stream)
    manifests = [s for s in header.sections if s.items.get(MANIFEST_KEY) == MANIFEST_VALUE]
    if not manifests:
        raise IncompatibleArtifactError(
            "this .litertlm file has no llm_tflite manifest: another program wrote it; "
            "run it with the LiteRT-LM runtime"
        )
    span = manifests[0].span
    if len(manifests) > 1 or span.size > MAX_MANIFEST_BYTES:
        raise CorruptArtifactError("expected one manifest of reasonable size in the file")
    stream.seek(span.begin)
    manifest = Manifest.from_bytes(stream.read(span.size))
    rest = [s for s in header.sections if s is not manifests[0]]
    sections = {"header": Span(0, min(s.span.begin for s in header.sections))}
    for section in rest:
        name = _SECTION_NAMES.get(SectionType(section.type)) if _is_known(section.type) else None
        if name is None or name in sections:
            raise CorruptArtifactError(f"unexpected section of type {section.type}")
        sections[name] = section.span
    contents = Contents(manifest, span, sections)
    contents.check_shape(stream.seek(0, 2))
    # The header is small and says where everything is, so it is checked before anything is used.
    contents.verify(stream, "header")
    return contents


def unpack_tokenizer(kind: str, stored: bytes) -> bytes:
    """Return the tokenizer as its library reads it; ``tokenizer.json`` is stored compressed.

    Raises:
        CorruptArtifactError: The compressed data is damaged, or claims an absurd size.
    """
    if kind != "hf":
        return stored
    size = int.from_bytes(stored[:8], "little")
    if size > min(_MAX_TOKENIZER_BYTES, _MAX_TOKENIZER_RATIO * len(stored)):
        raise CorruptArtifactError(
            f"a tokenizer of {len(stored):,} bytes claims to unpack to {size:,}"
        )
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(stored[8:], size + 1)
    except zlib.error as e:
        raise CorruptArtifactError(f"the tokenizer cannot be unpacked: {e}") from e
    if len(data) != size or not unpacker.eof or unpacker.unused_data:
        raise CorruptArtifactError(f"expected a tokenizer of {size:,} bytes; it unpacks to others")
    return data


def pack_tokenizer(kind: str, data: bytes) -> bytes:
    """Return the stored form of a tokenizer: the inverse of ``unpack_tokenizer``."""
    return data if kind != "hf" else len(data).to_bytes(8, "little") + zlib.compress(data)


def _is_known(number: int) -> bool:
    return number in SectionType._value2member_map_


def _read_section(table: FlatTable) -> Section:
    return Section(
        table.number(3, 1), Span(table.number(1, 8), table.number(2, 8)), _strings(table, 0)
    )


def _strings(table: FlatTable, field: int) -> dict[str, str]:
    """Key/value pairs with text values; numbers among them are of no use here."""
    pairs = {}
    for pair in table.items(field, _MAX_ENTRIES):
        if pair.number(1, 1) == _STRING_VALUE and (value := pair.table(2)):
            pairs[pair.text(0)] = value.text(0)
    return pairs
