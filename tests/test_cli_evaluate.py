"""``llm-tflite evaluate`` and ``compare``: the same figures, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import Command

import llm_tflite as lt

# Keras 3 reads its variables through an old form of NumPy's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TEXTS = ["The quick brown fox jumps over the lazy dog.", "In the evening the people sing."]


@pytest.fixture(scope="module")
def saved(gpt2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model as ``model.keras``, with texts beside it, one in each line."""
    folder = tmp_path_factory.mktemp("saved")
    gpt2.save(folder / "model.keras")
    (folder / "texts.txt").write_text("\r\n".join(TEXTS) + "\n\n")
    return folder


def without_times(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in facts.items() if name != "speed"}


def test_evaluate_prints_what_the_function_returns(
    command: Command, tflite_path: Path, saved: Path, gpt2: Any
) -> None:
    options = {"window": 8, "greedy_texts": 1, "greedy_tokens": 4, "threads": 1, "runs": 1}
    expected = lt.evaluate(tflite_path, reference=gpt2, text=TEXTS, seed=3, **options)
    arguments = ("evaluate", tflite_path, "--text", saved / "texts.txt", "--quiet", "--seed", 3)
    flags = [x for name, n in options.items() for x in (f"--{name.replace('_', '-')}", n)]
    code, out, err = command(*arguments, "--reference", saved / "model.keras", *flags, "--json")
    assert (code, err) == (0, "")
    facts = json.loads(out)
    assert without_times(facts) == without_times(json.loads(expected.to_json()))
    assert facts["speed"].keys() == json.loads(expected.to_json())["speed"].keys()

    # A float32 file is a reference too; here it is compared with itself.
    code, out, _ = command(*arguments, "--reference", tflite_path, *flags, "--markdown")
    assert code == 0
    assert "| top-1 agreement | 100.00% |" in out
    assert "| common greedy prefix of 4 | 4.0 (4) |" in out


def test_without_a_reference_a_page_for_people(
    command: Command, tflite_path: Path, saved: Path
) -> None:
    code, out, err = command("evaluate", tflite_path, "--text", saved / "texts.txt", "--runs", 1)
    assert code == 0
    assert "predicting texts" in err
    assert f"{tflite_path.stat().st_size:,} bytes" in out
    assert "perplexity" in out
    assert "reference" not in out
    assert "|" not in out


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("gone.tflite", "--text", "texts.txt"), "ArtifactNotFoundError"),
        (("FILE", "--text", "gone.txt"), "ArtifactNotFoundError"),
        (("FILE", "--text", "empty.txt"), "InvalidOptionError"),
        (("FILE", "--text", "binary.txt"), "InvalidOptionError"),
        (("FILE", "--text", "texts.txt", "--window", "65"), "InvalidOptionError"),
        (("FILE", "--text", "texts.txt", "--reference", "gone.keras"), "ArtifactNotFoundError"),
        (("FILE", "--text", "texts.txt", "--reference", "gone.tflite"), "ArtifactNotFoundError"),
        (("FILE", "--text", "texts.txt", "--reference", "no_such_preset"), "ConversionError"),
        (("FILE", "--text", "texts.txt", "--markdown"), "InvalidOptionError"),
        (("gone.tflite", "--text", "texts.txt", "--reference", "no"), "ArtifactNotFoundError"),
        (("FILE",), "UsageError"),
    ],
)
def test_what_cannot_be_evaluated_is_one_message(
    command: Command,
    tflite_path: Path,
    saved: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_bytes((saved / "texts.txt").read_bytes())
    Path("empty.txt").write_text("\n \n")
    Path("binary.txt").write_bytes(b"\xff\xfe")
    given = [tflite_path if argument == "FILE" else argument for argument in arguments]
    code, out, _ = command("evaluate", *given, "--quiet", "--json")
    assert (code, json.loads(out)["error"]["type"]) == (2 if error == "UsageError" else 1, error)


def test_compare_prints_every_row_and_draws_the_plot(
    command: Command, saved: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.png"
    sizes = ("--context-length", 32, "--prefill-lengths", 8, "--runs", 1, "--quiet")
    arguments = ("compare", saved / "model.keras", "--text", saved / "texts.txt", *sizes)
    code, out, err = command(*arguments, "--quantizers", "int4,nope", "--plot", plot, "--json")
    assert (code, err) == (1, "")
    first, second = json.loads(out)["quantizers"]
    assert first["report"]["kl_divergence"] > 0
    assert first["report"]["model"] == "GPT2CausalLM"
    assert second["error"].startswith("UnknownPluginNameError")
    assert plot.read_bytes().startswith(b"\x89PNG")

    code, out, _ = command(*arguments, "--quantizers", "dynamic_range", "--markdown")
    assert code == 0
    assert "| dynamic_range |" in out
    assert [path.name for path in tmp_path.iterdir()] == ["plot.png"]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("--quantizers", "int4", "--plot", "plot.jpg"), "UsageError"),
        (("--quantizers", "int4,,none"), "UsageError"),
        (("--quantizers", "int4,int4"), "InvalidOptionError"),
        (("--quantizers", "dynamic_range", "--calibration", "texts.txt"), "InvalidOptionError"),
        (("--quantizers", "int4", "--runs", "0"), "InvalidOptionError"),
    ],
)
def test_a_comparison_that_would_ignore_something_is_refused(
    command: Command,
    saved: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    error: str,
) -> None:
    monkeypatch.chdir(saved)
    common = ("compare", "model.keras", "--text", "texts.txt", "--quiet", "--json")
    code, out, _ = command(*common, *arguments)
    assert (code, json.loads(out)["error"]["type"]) == (2 if error == "UsageError" else 1, error)
    assert sorted(path.name for path in saved.iterdir()) == ["model.keras", "texts.txt"]
