"""A file appears whole or not at all: atomic writing, digests and free space.

Every message shows the path as the caller gave it, and nothing else of the machine.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from .errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    InvalidOptionError,
    LLMTFLiteError,
    StorageError,
)

CHUNK_BYTES = 1 << 20
_TEMPORARY_PREFIX = ".llm_tflite-"
_TEMPORARY_SUFFIX = ".tmp"

PathLike = str | os.PathLike[str]


def local_path(path: PathLike) -> Path:
    """Return ``path`` as a ``Path`` that the file system can be asked about.

    Raises:
        InvalidOptionError: It is not text, or holds a NUL character.
    """
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else path
    if not isinstance(text, str) or not text or "\0" in text:
        raise InvalidOptionError(f"expected the path of a file as text without NUL; got {path!r}")
    return Path(text)


def check_target(path: PathLike, *, overwrite: bool = False) -> Path:
    """Refuse a target that could not be written, before any work is done for it.

    What a killed process left behind for the same target is removed on the way.

    Raises:
        ArtifactExistsError: ``path`` is a folder, or exists and ``overwrite`` is false.
        StorageError: The folder is missing or does not accept new files.
    """
    target = local_path(path)
    with storage_errors(path):
        _remove_stale(target)
        if target.is_dir():
            raise ArtifactExistsError(f"expected the path of a file; {path} is a folder")
        if not overwrite and os.path.lexists(target):
            raise ArtifactExistsError(f"{path} exists; pass overwrite=True to replace it")
        if not target.parent.is_dir():
            raise StorageError(f"the folder of {path} does not exist; create it first")
        if not os.access(target.parent, os.W_OK | os.X_OK):
            raise StorageError(f"the folder of {path} does not accept new files; choose another")
        # Names that are too long show only when the file system is asked about the name itself.
        with contextlib.suppress(FileNotFoundError):
            target.lstat()
    return target


@contextlib.contextmanager
def atomic_file(path: PathLike, *, overwrite: bool = False) -> Iterator[BinaryIO]:
    """Open a new file that takes the name ``path`` only once it is complete and on disk.

    The bytes go to a hidden file in the same folder. Leaving the block without an exception moves
    it into place; any exception removes it.

    Raises:
        ArtifactExistsError: ``path`` exists, maybe since a moment ago, and ``overwrite`` is false.
        StorageError: The disk refused.
    """
    target = check_target(path, overwrite=overwrite)
    with storage_errors(path):
        temporary, stream = _open_temporary(target)
        try:
            with stream:
                yield stream
                settle(stream)
                if sys.platform != "win32":
                    _publish(temporary, target, path, overwrite)
            if sys.platform == "win32":  # an open file cannot be renamed there
                _publish(temporary, target, path, overwrite)
        finally:
            with contextlib.suppress(FileNotFoundError):
                temporary.unlink()
        _sync_folder(target.parent)


@contextlib.contextmanager
def scratch_file(path: PathLike) -> Iterator[tuple[Path, BinaryIO]]:
    """Open a hidden file beside ``path`` for intermediate results; it is gone when the block ends.

    What a killed process left behind for the same target is removed by the next call.
    """
    target = local_path(path)
    with storage_errors(path):
        _remove_stale(target)
        scratch, stream = _open_temporary(target)
        try:
            with stream:
                yield scratch, stream
        finally:
            with contextlib.suppress(FileNotFoundError):
                scratch.unlink()


def settle(stream: BinaryIO) -> None:
    """Bring what was written to disk, so that whoever maps the file can let go of its pages."""
    stream.flush()
    os.fsync(stream.fileno())


def require_space(folder: PathLike, size_bytes: int) -> None:
    """Refuse to start writing what the disk cannot hold.

    Raises:
        StorageError: Less than ``size_bytes`` are free; the message says how much is missing.
    """
    with storage_errors(folder):
        free = shutil.disk_usage(local_path(folder)).free
    if free < size_bytes:
        raise StorageError(
            f"{size_bytes / 1e6:,.1f} MB are needed in {folder} and {free / 1e6:,.1f} MB are free: "
            f"make {(size_bytes - free) / 1e6:,.1f} MB of room or choose another folder"
        )


def open_regular(path: PathLike) -> BinaryIO:
    """Open an existing file for reading; never a folder, a device or a pipe that would block.

    Raises:
        ArtifactNotFoundError: There is no file at ``path``.
        StorageError: It may not be read.
    """
    source = local_path(path)
    with storage_errors(path):
        try:
            if not stat.S_ISREG(source.stat().st_mode):
                raise ArtifactNotFoundError(f"expected a file; {path} is a folder or a device")
            return source.open("rb")
        except (FileNotFoundError, NotADirectoryError) as e:
            raise ArtifactNotFoundError(f"there is no file at {path}") from e


def read_chunks(stream: BinaryIO, begin: int, end: int) -> Iterator[bytes]:
    """Yield the bytes ``begin`` to ``end`` of ``stream``, a mebibyte at a time.

    Raises:
        CorruptArtifactError: The stream ends before ``end``.
    """
    while begin < end:
        stream.seek(begin)
        chunk = stream.read(min(CHUNK_BYTES, end - begin))
        if not chunk:
            raise CorruptArtifactError(f"expected {end:,} bytes; the file ends at {begin:,}")
        yield chunk
        begin += len(chunk)


def sha256_file(path: PathLike, begin: int = 0, end: int | None = None) -> str:
    """Return the SHA-256 of a file, or of a part of it, in hexadecimal.

    Raises:
        ArtifactNotFoundError: There is no file at ``path``.
        CorruptArtifactError: The file is shorter than ``end``.
        StorageError: It cannot be read.
    """
    digest = hashlib.sha256()
    with open_regular(path) as stream, storage_errors(path):
        stop = os.fstat(stream.fileno()).st_size if end is None else end
        for chunk in read_chunks(stream, begin, stop):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def storage_errors(path: PathLike) -> Iterator[None]:
    """Turn an ``OSError`` inside the block into a ``StorageError`` about ``path``."""
    try:
        yield
    except LLMTFLiteError:
        raise
    except OSError as e:
        reason = e.strerror or type(e).__name__
        raise StorageError(e.errno, f"the disk refused {path}: {reason}") from e


def _temporary_stem(target: Path) -> str:
    # A digest instead of the name itself: the name may already have the 255 bytes that are allowed.
    return _TEMPORARY_PREFIX + hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16] + "-"


def _open_temporary(target: Path) -> tuple[Path, BinaryIO]:
    """Create the hidden file and hold a lock on it that ends with this process."""
    while True:
        name = _temporary_stem(target) + secrets.token_hex(8) + _TEMPORARY_SUFFIX
        temporary = target.with_name(name)
        stream = temporary.open("x+b")
        try:
            _lock(stream, wait=True)
        except OSError:
            return temporary, stream  # no locks on this file system, so no cleaner takes it either
        # A cleaner may have seen the file between its creation and the lock.
        if sys.platform == "win32" or os.fstat(stream.fileno()).st_nlink:
            return temporary, stream
        stream.close()


def _remove_stale(target: Path) -> None:
    """Remove the hidden files of this target whose process is gone, and only those."""
    pattern = _temporary_stem(target) + "*" + _TEMPORARY_SUFFIX
    for leftover in target.parent.glob(pattern):
        # Living owners hold the lock; on Windows an open file cannot be unlinked at all.
        with contextlib.suppress(OSError), leftover.open("rb") as stream:
            _lock(stream, wait=False)
            if sys.platform != "win32":
                leftover.unlink()
        if sys.platform == "win32":
            with contextlib.suppress(OSError):
                leftover.unlink()


def _lock(stream: BinaryIO, *, wait: bool) -> None:
    if sys.platform != "win32":
        import fcntl

        fcntl.flock(stream, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))


def _publish(temporary: Path, target: Path, path: PathLike, overwrite: bool) -> None:
    """Give the finished file its name: over the old file, or only where there is none."""
    if overwrite:
        temporary.replace(target)
        return
    try:
        # Unlike a rename, a link (and a rename on Windows) fails where a file already stands.
        if sys.platform == "win32":
            temporary.rename(target)
        else:
            os.link(temporary, target)
    except FileExistsError as e:
        raise ArtifactExistsError(f"{path} was written by another process meanwhile") from e
    except OSError as e:
        if e.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        # File systems without hard links (FAT, some network shares): check, then rename.
        check_target(path)
        temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself survive a power cut; systems that cannot do so say so and go on."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as e:
        if e.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EACCES):
            raise
    finally:
        os.close(descriptor)
