"""One file, on disk or in memory, that holds a model, its tokenizer and the facts about both."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from .bundle import litertlm, tflite_metadata
from .bundle.contents import Contents
from .bundle.litertlm_writer import write_litertlm
from .errors import CorruptArtifactError, IncompatibleArtifactError, InvalidOptionError
from .files import (
    PathLike,
    atomic_file,
    check_target,
    local_path,
    open_regular,
    read_chunks,
    require_space,
    storage_errors,
)
from .manifest import Manifest
from .tokenizers import Tokenizer, load_tokenizer

_Writer = Callable[[BinaryIO, Iterator[bytes], bytes | None, Manifest], None]
_WRITERS: dict[str, _Writer] = {
    ".litertlm": write_litertlm,
    ".tflite": tflite_metadata.write_tflite,
}
# Sections start at 16 KiB boundaries, and header and manifest take a little.
_CONTAINER_BYTES = 1 << 20


class Artifact:
    """A file that ``Converter`` wrote. Opening it reads a few kilobytes; no weights are touched."""

    def __init__(
        self, contents: Contents, path: Path | None, data: bytes | None, size: int
    ) -> None:
        """Use ``Artifact.open`` or ``Artifact.from_bytes``."""
        self._contents = contents
        self._data = data
        self.path = path
        self.size_bytes = size

    @classmethod
    def open(cls, path: PathLike) -> Artifact:
        """Read what the file at ``path`` says of itself.

        Raises:
            ArtifactNotFoundError: There is no file at ``path``.
            CorruptArtifactError: The file is cut, altered or of another format.
            IncompatibleArtifactError: Another program or a later version wrote it.
        """
        with open_regular(path) as stream, _naming(path):
            contents, size = _read(stream)
        return cls(contents, local_path(path), None, size)

    @classmethod
    def from_bytes(cls, data: bytes) -> Artifact:
        """Read an artifact that is already in memory; see ``open``."""
        contents, size = _read(io.BytesIO(data))
        return cls(contents, None, data, size)

    @property
    def manifest(self) -> Manifest:
        """What the file says of itself."""
        return self._contents.manifest

    @property
    def container(self) -> str:
        """``".litertlm"`` or ``".tflite"``, whatever the file is called."""
        return ".litertlm" if "header" in self._contents.sections else ".tflite"

    def verify(self) -> None:
        """Read the whole file and compare it with its digests.

        Raises:
            CorruptArtifactError: A byte was changed since the file was written.
        """
        with self._stream() as stream, _naming(self.path):
            for name in self._contents.sections:
                self._contents.verify(stream, name)
            self._contents.verify_gaps(stream)

    def model_section(self) -> tuple[int, int]:
        """Where the ``.tflite`` model begins and ends in the file.

        Offsets inside the model count from that begin. A ``.tflite`` artifact is all model.
        """
        if self.container == ".tflite":
            return 0, self.size_bytes
        span = self._contents.sections["model"]
        return span.begin, span.end

    def read_model(self) -> bytes:
        """Return the verified model, ready for a runtime that takes bytes.

        Raises:
            CorruptArtifactError: It was changed since the file was written.
        """
        begin, end = self.model_section()
        with self._stream() as stream, _naming(self.path):
            stream.seek(begin)
            data = stream.read(end - begin)
            # Over the bytes that are handed out: the file may be replaced at any time.
            self._contents.verify(io.BytesIO(data), "model", origin=begin)
        return data

    def tokenizer(self) -> Tokenizer | None:
        """Load the tokenizer; a model that was converted without a preprocessor has none.

        Raises:
            CorruptArtifactError: It was changed since the file was written.
        """
        data = self._tokenizer_data()
        facts = self.manifest.tokenizer
        return None if data is None or facts is None else load_tokenizer(facts.kind, data)

    def save_as(self, path: PathLike, *, overwrite: bool = False) -> Artifact:
        """Write the same model to another path, as ``.litertlm`` or ``.tflite`` by its suffix.

        The result has the same bytes as a direct conversion to that path.

        Raises:
            ArtifactExistsError: ``path`` exists and ``overwrite`` is false.
            CorruptArtifactError: This file was changed since it was written; nothing is saved.
            InvalidOptionError: The container cannot hold the layout.
        """
        write = _writer_for(path)
        if write is write_litertlm and self.manifest.layout != "prefill_decode":
            raise InvalidOptionError(
                f"LiteRT-LM runs the layout 'prefill_decode' only; expected a path that ends in "
                f".tflite for the layout {self.manifest.layout!r}"
            )
        check_target(path, overwrite=overwrite)
        self.verify()
        require_space(local_path(path).parent, self.size_bytes + _CONTAINER_BYTES)
        with self._stream() as source, atomic_file(path, overwrite=overwrite) as target:
            write(
                target,
                self._contents.chunks(source, "model"),
                self._tokenizer_data(),
                self.manifest,
            )
        return Artifact.open(path)

    def __repr__(self) -> str:
        """Name the file and the model."""
        model = self.manifest.model
        return (
            f"<Artifact {self.path or 'in memory'}: {model.class_}, "
            f"{model.parameters:,} parameters, {self.manifest.quantization.strategy}, "
            f"{self.size_bytes:,} bytes>"
        )

    def _stream(self) -> BinaryIO:
        if self._data is not None:
            return io.BytesIO(self._data)
        if self.path is None:
            raise InvalidOptionError("an artifact needs a path or bytes")
        return open_regular(self.path)

    def _tokenizer_data(self) -> bytes | None:
        facts = self.manifest.tokenizer
        if facts is None:
            return None
        with self._stream() as stream, _naming(self.path):
            self._contents.verify(stream, "tokenizer")
            stored = b"".join(self._contents.chunks(stream, "tokenizer"))
            if self.container == ".tflite":
                return stored
            return litertlm.unpack_tokenizer(facts.kind, stored)


def write_artifact(
    path: PathLike,
    core: PathLike,
    tokenizer: bytes | None,
    manifest: Manifest,
    *,
    overwrite: bool = False,
) -> Artifact:
    """Put a model, its tokenizer and its manifest into one file, which appears whole or not at all.

    Args:
        path: Where to; the suffix chooses the container.
        core: A ``.tflite`` file with reserved metadata entries.
        tokenizer: The tokenizer as its library reads it, exactly when the manifest names one.
        manifest: Its ``sections`` are filled in.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ArtifactExistsError: ``path`` exists and ``overwrite`` is false.
        InvalidOptionError: The suffix is unknown, or tokenizer and manifest disagree.
        StorageError: The disk refused or is too small.
    """
    write = _writer_for(path)
    target = check_target(path, overwrite=overwrite)
    if (tokenizer is None) != (manifest.tokenizer is None):
        raise InvalidOptionError("expected a tokenizer exactly when the manifest names one")
    with open_regular(core) as source:
        tflite_metadata.check_core(source)
        size = source.seek(0, os.SEEK_END)
        require_space(target.parent, size + len(tokenizer or b"") + _CONTAINER_BYTES)
        with atomic_file(path, overwrite=overwrite) as stream:
            write(stream, read_chunks(source, 0, size), tokenizer, manifest)
    return Artifact.open(path)


def _writer_for(path: PathLike) -> _Writer:
    suffix = local_path(path).suffix.lower()
    if suffix not in _WRITERS:
        raise InvalidOptionError(
            f"expected a path that ends in one of {sorted(_WRITERS)}; got {path}"
        )
    return _WRITERS[suffix]


def _read(stream: BinaryIO) -> tuple[Contents, int]:
    """Recognise the container by its first bytes and read what it holds."""
    size = stream.seek(0, os.SEEK_END)
    stream.seek(0)
    start = stream.read(8)
    if start == litertlm.MAGIC:
        contents = litertlm.read_contents(stream)
    elif start[4:] == tflite_metadata.FILE_IDENTIFIER:
        contents = tflite_metadata.read_contents(stream)
    elif start.startswith(b"PK"):
        raise IncompatibleArtifactError("this is a zip archive (.task); convert the model again")
    else:
        raise CorruptArtifactError("expected a .litertlm or .tflite file; it is neither")
    if "model" not in contents.sections:
        raise CorruptArtifactError("the file holds no model")
    if ("tokenizer" in contents.sections) != (contents.manifest.tokenizer is not None):
        raise CorruptArtifactError("the manifest and the sections disagree about the tokenizer")
    return contents, size


@contextlib.contextmanager
def _naming(path: PathLike | None) -> Iterator[None]:
    """Begin the message of an error inside the block with the file that it is about."""
    try:
        with storage_errors(path or "the artifact"):
            yield
    except (CorruptArtifactError, IncompatibleArtifactError) as e:
        if path is None:
            raise
        raise type(e)(f"{path}: {e}") from e
