"""The command line, in this process where that is enough and as a process where it is not."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

from llm_tflite import __version__
from llm_tflite.inspection import inspect
from llm_tflite.interpreter import Interpreter
from llm_tflite.sampling import Sampling

PROMPT = "The quick brown fox"
START_AND_PROMPT = (50256, 464, 2068, 7586, 21831)


def process(*arguments: object, **options: Any) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "llm_tflite", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, **options)


# --- generate -------------------------------------------------------------------------------------


def test_the_answer_is_what_the_interpreter_says(command: Command, tflite_path: Path) -> None:
    with Interpreter(tflite_path) as interpreter:
        expected = interpreter.generate(PROMPT, max_new_tokens=8)
    code, out, err = command("generate", tflite_path, PROMPT, "--max-new-tokens", 8)
    assert (code, out) == (0, expected.text + "\n")
    assert "8 tokens, ended by length" in err
    ids = " ".join(str(token) for token in START_AND_PROMPT)
    assert command("generate", tflite_path, ids, "--tokens", "--max-new-tokens", 8)[1] == out


def test_every_option_reaches_the_interpreter(command: Command, tflite_path: Path) -> None:
    sampling = Sampling(
        temperature=1.5, top_k=50, top_p=0.9, min_p=0.01, repetition_penalty=1.3, seed=7
    )
    text = PROMPT * 20 + "<|endoftext|>"
    with Interpreter(tflite_path) as interpreter:
        expected = interpreter.generate(
            text,
            max_new_tokens=8,
            sampling=sampling,
            stop=["zzz", "yyy"],
            logprobs=2,
            context_window=20,
            trim_prompt=True,
            allow_special_tokens=True,
        )
    code, out, _ = command(
        *("generate", tflite_path, text, "--json", "--max-new-tokens", 8, "--temperature", 1.5),
        *("--top-k", 50, "--top-p", 0.9, "--min-p", 0.01, "--repetition-penalty", 1.3),
        *("--seed", 7, "--stop", "zzz", "--stop", "yyy", "--logprobs", 2, "--context-window", 20),
        *("--trim-prompt", "--allow-special-tokens", "--threads", 1),
    )
    facts = json.loads(out)
    assert (code, facts["error"]) == (0, None)
    assert facts["token_ids"] == list(expected.token_ids)
    assert facts["trimmed_tokens"] == expected.trimmed_tokens > 0
    assert facts["logprobs"][0]["top"][1][0] == expected.logprobs[0].top[1][0]
    assert facts["timings"]["decode_tokens_per_s"] > 0


def test_a_penalty_alone_keeps_the_best_token(command: Command, tflite_path: Path) -> None:
    arguments = ("generate", tflite_path, PROMPT, "--max-new-tokens", 12)
    penalised = [command(*arguments, "--repetition-penalty", 1.5)[1] for _ in range(2)]
    assert penalised[0] == penalised[1]
    assert command(*arguments, "--seed", 1)[1] != command(*arguments, "--seed", 2)[1]


def test_a_prompt_comes_from_standard_input(
    command: Command, tflite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = command("generate", tflite_path, PROMPT, "--max-new-tokens", 3)[1]
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(PROMPT.encode() + b"\n")))
    assert command("generate", tflite_path, "-", "--max-new-tokens", 3)[1] == expected
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"\xff")))
    code, _, err = command("generate", tflite_path, "-")
    assert (code, "UTF-8" in err) == (1, True)


def test_an_artifact_without_a_tokenizer_answers_in_tokens(
    command: Command, variant: Callable[..., Path], tflite_path: Path
) -> None:
    path = variant(tokenizer=False)
    code, out, _ = command("generate", path, "464,2068", "--tokens", "--max-new-tokens", 4)
    with Interpreter(tflite_path) as interpreter:
        expected = interpreter.generate([464, 2068], max_new_tokens=4).token_ids
    assert (code, [int(token) for token in out.split()]) == (0, list(expected))
    assert command("generate", path, PROMPT)[0] == 1


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (["--temperature", "nan"], "InvalidOptionError"),
        (["--max-new-tokens", "-1"], "InvalidOptionError"),
        (["--threads", "100000"], "InvalidOptionError"),
        (["--tokens"], "PromptError"),
        (["--context-window", "2"], "ContextOverflowError"),
    ],
)
def test_what_the_interpreter_refuses_is_one_message(
    command: Command, tflite_path: Path, options: list[str], error: str
) -> None:
    arguments = ("generate", tflite_path, PROMPT, *options)
    code, out, err = command(*arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    code, out, err = command(*arguments, "--json")
    facts = json.loads(out)["error"]
    assert (code, facts["type"], err) == (1, error, "")


# --- inspect and plugins --------------------------------------------------------------------------


def test_inspect_prints_a_page_or_json(command: Command, litertlm_path: Path) -> None:
    inspection = inspect(litertlm_path, verify=True)
    assert command("inspect", litertlm_path, "--verify") == (0, f"{inspection}\n", "")
    code, out, _ = command("inspect", litertlm_path, "--verify", "--json")
    assert (code, json.loads(out)) == (0, json.loads(json.dumps(inspection.to_dict())))


def test_inspect_fails_when_a_digest_does_not_match(
    command: Command, tflite_path: Path, tmp_path: Path
) -> None:
    data = bytearray(tflite_path.read_bytes())
    data[2_000_000] ^= 1
    altered = tmp_path / "altered.tflite"
    altered.write_bytes(data)
    assert command("inspect", altered)[0] == 0
    code, out, _ = command("inspect", altered, "--verify", "--json")
    assert (code, json.loads(out)["digests"]) == (1, "mismatch")


def test_a_file_cannot_steer_the_terminal(
    command: Command, litertlm_path: Path, tmp_path: Path
) -> None:
    path = tmp_path / "hostile.litertlm"
    data = litertlm_path.read_bytes()
    path.write_bytes(data[:16384].replace(b"llm_tflite\0", b"\x1b[2J\x07_tool\0") + data[16384:])
    code, out, _ = command("inspect", path)
    assert code == 0
    assert "\\x1b[2J\\x07_tool=manifest" in out
    assert "\x1b" not in out


def test_plugins_lists_what_works_and_what_failed(tmp_path: Path) -> None:
    package = tmp_path / "broken-1.2.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.2\n")
    (package / "entry_points.txt").write_text("[llm_tflite]\nsad = broken_plugin\n")
    (tmp_path / "broken_plugin.py").write_text("print('hello')\nimport not_installed")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = process("plugins", "--json", env=environment, check=True)
    quantizers, registrars, text_filters, broken = json.loads(done.stdout)["plugins"]
    assert "int4" in quantizers["provides"]["quantizers"]
    assert registrars["provides"] == {"registrars": ["tf_text"]}
    assert text_filters["provides"] == {"text_filters": ["profanity"]}
    assert (broken["name"], broken["distribution"], broken["version"]) == ("sad", "broken", "1.2")
    assert "not_installed" in broken["error"]
    page = process("plugins", env=environment, check=True).stdout.decode()
    assert f"builtin_quantizers (llm-tflite {__version__})" in page
    assert "  registrars: tf_text" in page
    assert "  error: ModuleNotFoundError: No module named 'not_installed'" in page


# --- as a process ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["chat"],
        ["generate", "file"],
        ["generate", "file", "prompt", "--top-k", "many"],
        ["convert", "-o", "tiny.tflite"],
        ["convert", "--preset", "p", "-o", "tiny.bin"],
        ["convert", "--keras", "model.h5", "-o", "tiny.tflite"],
        ["convert", "--preset", "p", "-o", "t.tflite", "--prefill-lengths", "8,x"],
        ["inspect", "file", "--verif"],
    ],
)
def test_wrong_usage_is_exit_code_2(command: Command, arguments: list[str]) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith("usage: llm-tflite")
    code, out, err = command(*arguments, "--json")
    assert (code, json.loads(out)["error"]["type"], err) == (2, "UsageError", "")


def test_commands_other_than_convert_do_without_tensorflow(tflite_path: Path) -> None:
    code = (
        "import sys; from llm_tflite.cli import run; "
        "codes = [run(['generate', sys.argv[1], 'Hi', '--max-new-tokens', '1']), "
        "run(['inspect', sys.argv[1]]), run(['plugins'])]; "
        "sys.exit(any(codes) or bool({'tensorflow', 'keras'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code, tflite_path], capture_output=True, check=True)


def test_the_module_runs_and_leaves_standard_error_to_figures(tflite_path: Path) -> None:
    done = process("generate", tflite_path, PROMPT, "--max-new-tokens", 4, check=True)
    assert done.stdout.count(b"\n") == 1
    assert done.stderr.startswith(b"4 tokens, ended by length; prompt 5 tokens; load ")
    assert done.stderr.count(b"\n") == 1
    assert process("--version", check=True).stdout.decode() == f"llm-tflite {__version__}\n"


def test_a_terminal_without_unicode_shows_what_it_can(tflite_path: Path) -> None:
    def answer(seed: int) -> str:
        sampling = Sampling(temperature=100, seed=seed)
        return interpreter.generate(PROMPT, max_new_tokens=30, sampling=sampling).text

    with Interpreter(tflite_path) as interpreter:
        seed = next(seed for seed in range(1000) if not answer(seed).isascii())
        expected = answer(seed).encode("ascii", "replace") + b"\n"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    arguments = ("generate", tflite_path, PROMPT, "--max-new-tokens", 30, "--temperature", 100)
    done = process(*arguments, "--seed", seed, env=environment, check=True)
    assert done.stdout == expected


def test_a_reader_that_goes_away_ends_it_quietly(tflite_path: Path) -> None:
    command = [sys.executable, "-m", "llm_tflite", "inspect", str(tflite_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        assert running.stderr.read() == b""
    assert running.returncode == 141
