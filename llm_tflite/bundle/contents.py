"""What a container holds, in the terms that both containers share."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

from llm_tflite.errors import CorruptArtifactError
from llm_tflite.files import read_chunks
from llm_tflite.manifest import Manifest, SectionFacts


@dataclass(frozen=True)
class Span:
    """A part of a file: from ``begin`` to ``end``, exclusive."""

    begin: int
    end: int

    @property
    def size(self) -> int:
        """Its length in bytes."""
        return self.end - self.begin


@dataclass(frozen=True)
class Contents:
    """Where a container keeps its manifest and every section that the manifest vouches for.

    ``at_rest`` maps positions in the file to the eight bytes that stand there when the model is not
    wrapped: the model's digest is taken over those, so that it is the same in both containers.
    """

    manifest: Manifest
    manifest_span: Span
    sections: Mapping[str, Span]
    at_rest: Mapping[int, bytes] = field(default_factory=dict)

    def chunks(self, stream: BinaryIO, name: str, *, origin: int = 0) -> Iterator[bytes]:
        """Yield a section as its digest covers it.

        The stream begins at byte ``origin`` of the file.
        """
        span = self.sections[name]
        position = span.begin
        for chunk in read_chunks(stream, span.begin - origin, span.end - origin):
            here = [at for at in self.at_rest if position <= at < position + len(chunk)]
            if here:
                patched = bytearray(chunk)
                for at in here:
                    original = self.at_rest[at]
                    patched[at - position : at - position + len(original)] = original
                yield bytes(patched)
            else:
                yield chunk
            position += len(chunk)

    def check_shape(self, file_size: int) -> None:
        """Compare the sections found with those listed, without reading them.

        Raises:
            CorruptArtifactError: A section is missing, not listed, overlapping or of another size,
                or the file does not end with its last section.
        """
        listed = {name: facts.size for name, facts in self.manifest.sections.items()}
        found = {name: span.size for name, span in self.sections.items()}
        if listed != found:
            raise CorruptArtifactError(
                f"the manifest lists the sections {listed}; the file holds {found}"
            )
        spans = self._in_order()
        for before, after in itertools.pairwise(spans):
            if before.end > after.begin:
                raise CorruptArtifactError(f"sections overlap at byte {after.begin:,}")
        if spans[0].begin != 0 or spans[-1].end != file_size:
            raise CorruptArtifactError(
                f"expected a file of {spans[-1].end:,} bytes; it has {file_size:,}"
            )

    def verify(self, stream: BinaryIO, name: str, *, origin: int = 0) -> None:
        """Compare one section with its digest; the stream begins at byte ``origin`` of the file.

        Raises:
            CorruptArtifactError: A byte was changed.
        """
        digest = hashlib.sha256()
        for chunk in self.chunks(stream, name, origin=origin):
            digest.update(chunk)
        if digest.hexdigest() != self.manifest.sections[name].sha256:
            raise CorruptArtifactError(
                f"the section {name!r} does not match its digest: it was changed or damaged"
            )

    def verify_gaps(self, stream: BinaryIO) -> None:
        """Check that nothing but zeros stands between the sections."""
        for before, after in itertools.pairwise(self._in_order()):
            for chunk in read_chunks(stream, before.end, after.begin):
                if chunk.strip(b"\0"):
                    raise CorruptArtifactError(f"unexpected bytes after byte {before.end:,}")

    def _in_order(self) -> list[Span]:
        spans = [*self.sections.values(), self.manifest_span]
        return sorted(spans, key=lambda span: (span.begin, span.end))


class SectionWriter:
    """Appends sections to a stream at aligned positions and remembers their digests."""

    def __init__(self, stream: BinaryIO, alignment: int) -> None:
        """Append to ``stream``, each section at a multiple of ``alignment``."""
        self._stream = stream
        self._alignment = alignment
        self.spans: dict[str, Span] = {}
        self.facts: dict[str, SectionFacts] = {}

    def align(self, begin: int = 0) -> int:
        """Pad with zeros to the first boundary at ``begin`` or after; return its position."""
        end = self._stream.seek(0, 2)
        begin = -(-max(begin, end) // self._alignment) * self._alignment
        self._stream.write(b"\0" * (begin - end))
        return begin

    def add(self, name: str, chunks: Iterator[bytes] | list[bytes], *, begin: int = 0) -> None:
        """Write one section."""
        start = position = self.align(begin)
        digest = hashlib.sha256()
        for chunk in chunks:
            self._stream.write(chunk)
            digest.update(chunk)
            position += len(chunk)
        self.spans[name] = Span(start, position)
        self.facts[name] = SectionFacts(digest.hexdigest(), position - start)
