import multiprocessing
import os
import random
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llm_tflite import files
from llm_tflite.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    InvalidOptionError,
    StorageError,
)

NEW = b"new" * 50_000
OLD = b"old content"


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def write(path: Path, data: bytes = NEW, *, overwrite: bool = False) -> None:
    with files.atomic_file(path, overwrite=overwrite) as stream:
        stream.write(data)


@pytest.mark.parametrize("name", ["a.tflite", "with space ü 模型.tflite", "n" * 248 + ".tflite"])
def test_a_finished_file_has_its_bytes_and_nothing_stands_beside_it(tmp_path: Path, name: str):
    write(tmp_path / name)
    assert (tmp_path / name).read_bytes() == NEW
    assert names(tmp_path) == [name]
    write(tmp_path / name, OLD, overwrite=True)
    assert (tmp_path / name).read_bytes() == OLD
    assert names(tmp_path) == [name]


def test_the_name_appears_only_at_the_end(tmp_path: Path):
    target = tmp_path / "a.tflite"
    with files.atomic_file(target) as stream:
        stream.write(NEW)
        stream.flush()
        assert not target.exists()
    assert target.exists()


@pytest.mark.parametrize("interruption", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_interruption_leaves_the_old_file_and_nothing_else(tmp_path: Path, interruption):
    target = tmp_path / "a.tflite"
    target.write_bytes(OLD)

    def interrupted() -> None:
        with files.atomic_file(target, overwrite=True) as stream:
            stream.write(NEW)
            raise interruption

    with pytest.raises(interruption):
        interrupted()
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["a.tflite"]


def test_bad_targets_are_refused_before_any_work(tmp_path: Path):
    (tmp_path / "there").write_bytes(OLD)
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    refused = [
        (tmp_path / "there", ArtifactExistsError),
        (tmp_path / "folder", ArtifactExistsError),
        (tmp_path / "dangling", ArtifactExistsError),
        (tmp_path / "missing" / "a", StorageError),
        (tmp_path / "there" / "a", StorageError),
        (tmp_path / ("n" * 300), StorageError),
        ("", InvalidOptionError),
        ("a\0b", InvalidOptionError),
        (b"bytes", InvalidOptionError),
        (None, InvalidOptionError),
    ]
    for path, error in refused:
        with pytest.raises(error):
            files.check_target(path)
    with pytest.raises(ArtifactExistsError, match="folder"):
        files.check_target(tmp_path / "folder", overwrite=True)
    assert files.check_target(tmp_path / "there", overwrite=True) == tmp_path / "there"


def test_a_target_that_is_a_link_is_replaced_and_what_it_points_to_is_not(tmp_path: Path):
    (tmp_path / "elsewhere").write_bytes(OLD)
    (tmp_path / "link").symlink_to("elsewhere")
    write(tmp_path / "link", overwrite=True)
    assert (tmp_path / "elsewhere").read_bytes() == OLD
    assert not (tmp_path / "link").is_symlink()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_refused(tmp_path: Path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="does not accept"):
            files.check_target(tmp_path / "a")
    finally:
        tmp_path.chmod(0o700)


def test_messages_show_the_path_as_given_and_nothing_else(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("a.tflite").write_bytes(OLD)
    for act in (
        lambda: files.check_target("a.tflite"),
        lambda: files.check_target("missing/a.tflite"),
        lambda: files.open_regular("b.tflite"),
        lambda: files.require_space(".", 1 << 60),
        lambda: files.check_target("n" * 300),
    ):
        with pytest.raises((ArtifactExistsError, ArtifactNotFoundError, StorageError)) as caught:
            act()
        assert str(tmp_path) not in str(caught.value)


# --- a disk that refuses ------------------------------------------------------------------------

CHILD_AT_ITS_LIMIT = """
import resource, sys
from llm_tflite import files
from llm_tflite.errors import StorageError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    with files.atomic_file(sys.argv[1], overwrite=True) as stream:
        for _ in range(10):
            stream.write(b"x" * 50_000)
except StorageError as e:
    print(e)
    sys.exit(42)
"""


def test_a_full_disk_leaves_the_old_file_whole_and_no_rubbish(tmp_path: Path):
    target = tmp_path / "a.tflite"
    target.write_bytes(OLD)
    command = [sys.executable, "-c", CHILD_AT_ITS_LIMIT, str(target)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 42, child.stderr
    assert "File too large" in child.stdout
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["a.tflite"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_no_space_is_a_storage_error_with_its_number():
    with (
        pytest.raises(StorageError) as caught,
        files.storage_errors("a.tflite"),
        open("/dev/full", "wb", buffering=0) as full,
    ):
        full.write(b"x")
    assert caught.value.errno == 28
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_at_fsync_leaves_the_old_file(tmp_path: Path, monkeypatch):
    target = tmp_path / "a.tflite"
    target.write_bytes(OLD)

    def refuse(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(StorageError, match="Input/output"):
        write(target, overwrite=True)
    assert target.read_bytes() == OLD
    assert names(tmp_path) == ["a.tflite"]


@pytest.mark.parametrize("number", [1, 95, 38])
def test_file_systems_without_hard_links_are_written_all_the_same(tmp_path, monkeypatch, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    write(tmp_path / "a.tflite")
    assert names(tmp_path) == ["a.tflite"]
    with pytest.raises(ArtifactExistsError):
        write(tmp_path / "a.tflite")


def test_too_little_space_says_how_much_is_missing(tmp_path: Path):
    files.require_space(tmp_path, 1)
    with pytest.raises(StorageError, match=r"MB of room"):
        files.require_space(tmp_path, 1 << 62)


# --- killed and competing processes -------------------------------------------------------------

CHILD_THAT_WRITES_FOR_EVER = """
import sys
from llm_tflite import files
print("ready", flush=True)
n = 0
while True:
    n += 1
    with files.atomic_file(sys.argv[1], overwrite=True) as stream:
        for _ in range(64):
            stream.write(bytes([n % 256]) * 4096)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file_and_the_next_run_cleans_up(tmp_path: Path):
    target = tmp_path / "a.tflite"
    chance = random.Random(1)
    for _ in range(20):
        command = [sys.executable, "-c", CHILD_THAT_WRITES_FOR_EVER, str(target)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(chance.uniform(0, 0.05))
            child.kill()
            assert child.wait() == -signal.SIGKILL
        if target.exists():
            data = target.read_bytes()
            assert len(data) == 64 * 4096
            assert len(set(data)) == 1
    write(target, overwrite=True)
    assert names(tmp_path) == ["a.tflite"]


def test_the_file_of_a_living_writer_is_not_taken_for_rubbish(tmp_path: Path):
    target = tmp_path / "a.tflite"
    with files.atomic_file(target, overwrite=True) as slow:
        slow.write(b"slow")
        write(target, b"fast", overwrite=True)
        assert target.read_bytes() == b"fast"
    assert target.read_bytes() == b"slow"
    assert names(tmp_path) == ["a.tflite"]


def compete(path: str, mark: int, start: object, results: object) -> None:
    start.wait()
    try:
        write(Path(path), bytes([mark]) * 500_000)
    except ArtifactExistsError:
        results.put(None)
    else:
        results.put(mark)


def test_of_processes_that_write_one_path_one_wins_whole_and_the_others_are_refused(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    target = tmp_path / "a.tflite"
    start, results = context.Barrier(4), context.Queue()
    arguments = [(str(target), mark, start, results) for mark in range(4)]
    children = [context.Process(target=compete, args=a) for a in arguments]
    for child in children:
        child.start()
    answers = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join()
    winners = [answer for answer in answers if answer is not None]
    assert len(winners) == 1
    assert target.read_bytes() == bytes(winners) * 500_000
    assert names(tmp_path) == ["a.tflite"]


# --- reading ------------------------------------------------------------------------------------


def test_only_regular_files_are_opened(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(ArtifactNotFoundError):
            files.open_regular(path)


def test_the_digest_of_a_part_is_that_of_its_bytes(tmp_path: Path):
    path = tmp_path / "a"
    path.write_bytes(b"abc" * 700_000)
    assert files.sha256_file(path, 3, 6) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
    assert files.sha256_file(path) == files.sha256_file(path, 0, 2_100_000)
    with pytest.raises(CorruptArtifactError, match="ends at 2,100,000"):
        files.sha256_file(path, 0, 2_100_001)


def test_written_files_have_ordinary_permissions(tmp_path: Path):
    mask = os.umask(0o022)
    try:
        write(tmp_path / "a")
    finally:
        os.umask(mask)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
