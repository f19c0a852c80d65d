"""``llm-tflite convert``: every layout with its options, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from llm_tflite.artifact import Artifact
from llm_tflite.cli.convert import _LAYOUT_ARGUMENTS
from llm_tflite.converter import LAYOUT_OPTIONS

# Keras 3 reads its variables through an old form of NumPy's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def saved(gpt2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the model as ``model.keras`` and as the preset ``preset``."""
    folder = tmp_path_factory.mktemp("saved")
    gpt2.save(folder / "model.keras")
    gpt2.save_to_preset(str(folder / "preset"))
    return folder


def test_a_saved_model_becomes_a_file(command: Command, saved: Path, tmp_path: Path) -> None:
    target = tmp_path / "tiny.litertlm"
    options = ("--quantizer", "int4", "--context-length", 32, "--prefill-lengths", "4,8")
    options += ("--cache-dtype", "int8")
    code, out, err = command("convert", "--keras", saved / "model.keras", "-o", target, *options)
    assert code == 0, err
    assert f"{target}: {target.stat().st_size:,} bytes" in out
    assert "writing" in err
    manifest = Artifact.open(target).manifest
    assert manifest.quantization.strategy == "int4"
    assert manifest.model.context_length == 32
    assert manifest.model.prefill_lengths == (4, 8)
    assert {buffer.dtype for buffer in manifest.cache} == {"int8"}


def test_a_preset_folder_becomes_a_file_and_json_says_what_is_in_it(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    target = tmp_path / "tiny.tflite"
    arguments = ("convert", "--preset", saved / "preset", "-o", target, "--quiet")
    code, out, err = command(*arguments, "--json", "--prefill-lengths", 8)
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert (facts["path"], facts["size_bytes"]) == (str(target), target.stat().st_size)
    assert facts["manifest"]["quantization"]["strategy"] == "dynamic_range"
    code, out, err = command(*arguments)
    assert (code, out, err) == (1, "", f"error: {target} exists; pass --overwrite to replace it\n")
    assert command(*arguments, "--overwrite", "--prefill-lengths", 8) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--keras", "gone.keras"), "ArtifactNotFoundError"),
        (("--keras", "junk.keras"), "ConversionError"),
        (("--preset", "no_such_preset"), "ConversionError"),
        (("--preset", "no_such_preset", "--quantizer", "nope"), "UnknownPluginNameError"),
    ],
)
def test_a_source_that_is_no_model_is_refused_and_leaves_nothing(
    command: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("junk.keras").write_bytes(b"junk")
    code, out, _ = command("convert", *arguments, "-o", "tiny.tflite", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (1, error)
    assert os.listdir() == ["junk.keras"]


def test_code_in_a_saved_model_is_refused(command: Command, tmp_path: Path) -> None:
    import keras

    source = tmp_path / "evil.keras"
    layer = keras.layers.Lambda(lambda x: x + 1)
    keras.Sequential([keras.Input((1,)), layer]).save(source)
    code, _, err = command("convert", "--keras", source, "-o", tmp_path / "evil.tflite")
    assert code == 1
    assert "lambda" in err
    assert not (tmp_path / "evil.tflite").exists()


# --- layouts ------------------------------------------------------------------------------------


def test_the_generate_layout_with_its_options(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    target = tmp_path / "autocomplete.tflite"
    convert = ("convert", "--keras", saved / "model.keras", "-o", target, "--layout", "generate")
    options = ("--max-length", 24, "--text", "bytes", "--top-k", 20, "--temperature", 0.7)
    code, out, err = command(*convert, *options, "--quantizer", "none", "--json")
    assert code == 0, err
    facts = json.loads(out)["manifest"]
    assert facts == json.loads(Artifact.open(target).manifest.to_bytes())
    assert (facts["layout"], facts["model"]["context_length"]) == ("generate", 24)
    text = facts["text"]
    assert (text["form"], text["top_k"], text["temperature"]) == ("bytes", 20, 0.7)
    # The file knows how it draws, so nothing need be said of it.
    code, out, err = command("generate", target, "The quick brown fox", "--json")
    assert code == 0, err
    assert json.loads(out)["prompt_tokens"] == 5
    code, _, err = command("generate", target, "The quick brown fox", "--temperature", 0)
    assert (code, "top_k=20" in err) == (1, True)


def test_every_option_of_every_layout_is_on_the_command_line() -> None:
    reachable = {option for option, *_ in _LAYOUT_ARGUMENTS}
    assert {option for options in LAYOUT_OPTIONS.values() for option in options} == reachable


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--layout", "generate", "--context-length", 32), "no context_length; it belongs to"),
        (("--layout", "generate", "--prefill-lengths", "4,8"), "no prefill_lengths"),
        (("--max-length", 32), "no max_length; it belongs to generate"),
        (("--text", "bytes"), "no text; it belongs to generate"),
        (("--top-k", 3), "no sampling; it belongs to generate"),
        (("--layout", "generate", "--top-k", 0), "top_k must be a whole number"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused_before_the_model_is_loaded(
    command: Command, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    convert = ("convert", "--preset", "no_such_preset", "-o", tmp_path / "tiny.tflite")
    code, out, err = command(*convert, *arguments)
    assert (code, out) == (1, "")
    assert message in err
    assert not list(tmp_path.iterdir())


def test_what_the_layout_refuses_is_one_message(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    convert = ("convert", "--keras", saved / "model.keras", "--quiet", "--layout", "generate")
    for target, options, message in (
        ("tiny.tflite", ("--temperature", 0.7), "got top_k=None"),
        ("tiny.tflite", ("--max-length", 1), "max_length must be"),
        ("tiny.litertlm", (), "must end in .tflite"),
    ):
        code, out, err = command(*convert, "-o", tmp_path / target, *options)
        assert (code, out, err.count("\n")) == (1, "", 1)
        assert message in err
    assert not list(tmp_path.iterdir())


# --- calibration --------------------------------------------------------------------------------


def test_calibration_texts_come_from_a_file(command: Command, saved: Path, tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text("".join(f"The story of day {day}.\r\n\n" for day in range(24)))
    target = tmp_path / "tiny.tflite"
    convert = ("convert", "--keras", saved / "model.keras", "-o", target, "--quiet", "--json")
    options = ("--prefill-lengths", "8", "--calibration", texts)
    code, out, err = command(*convert, *options, "--quantizer", "full_integer")
    document = json.loads(out)
    if code == 0:
        assert document["manifest"]["check"]["calibration"]["texts"] == 24
    else:  # how well random weights take it is not this test's matter
        assert document["error"]["type"] == "DisagreementError", err
        assert "on the calibration texts" in document["error"]["message"]
        assert not target.exists()
    code, out, _ = command(*convert, "--overwrite", *options)  # another quantizer ignores them
    assert (code, json.loads(out)["error"]["type"]) == (1, "InvalidOptionError")
    code, out, _ = command(*convert, "--overwrite", "--quantizer", "full_integer")
    assert (code, "pass --calibration" in json.loads(out)["error"]["message"]) == (1, True)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (None, "ArtifactNotFoundError"),
        (b"\xff\xfe", "InvalidOptionError"),
        (b" \n\n", "InvalidOptionError"),
    ],
)
def test_a_file_without_texts_is_refused_before_the_model_is_loaded(
    command: Command, tmp_path: Path, content: bytes | None, error: str
) -> None:
    texts = tmp_path / "texts.txt"
    if content is not None:
        texts.write_bytes(content)
    target = tmp_path / "tiny.tflite"
    convert = ("convert", "--preset", "no_such_preset", "-o", target, "--json")
    code, out, _ = command(*convert, "--quantizer", "full_integer", "--calibration", texts)
    assert (code, json.loads(out)["error"]["type"]) == (1, error)
    assert not target.exists()


# --- interrupted --------------------------------------------------------------------------------


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """Children of a shell's background job would not hear of an interrupt."""
    previous = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
@pytest.mark.usefixtures("_interruptible")
def test_an_interrupted_conversion_leaves_no_file_and_no_traceback(
    saved: Path, tmp_path: Path
) -> None:
    arguments = ["convert", "--keras", saved / "model.keras", "-o", tmp_path / "tiny.tflite"]
    command = [sys.executable, "-m", "llm_tflite", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        deadline = time.monotonic() + 600  # for machines with other work to do
        while not os.listdir(tmp_path) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)  # until its working folder is there
        assert os.listdir(tmp_path)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate()
    assert (running.returncode, out) == (130, b"")
    assert b"Traceback" not in err
    assert err.endswith(b"\ninterrupted\n")
    assert os.listdir(tmp_path) == []
