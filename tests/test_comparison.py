"""``compare``: several quantizers of one model, and what becomes of those that fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite.demo.llama2c import load_llama2c
from llm_tflite.demo.material import STORIES15M, fetch
from llm_tflite.demo.shapes import tiny_llama
from llm_tflite.errors import (
    InvalidOptionError,
    MissingDependencyError,
    PromptError,
    StorageError,
    UnsupportedModelError,
)
from llm_tflite.evaluation.comparison import Outcome
from llm_tflite.progress import Progress
from llm_tflite.quantization import QuantizedTensor, Weight
from llm_tflite.quantizers.int8 import Int8

# Keras 3 reads its variables through an old form of NumPy's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

SIZES: dict[str, Any] = {"context_length": 64, "prefill_lengths": (8,), "runs": 1}
TEXTS = [[int(t) for t in row] for row in np.random.default_rng(0).integers(0, 160, (2, 30))]


class Broken:
    """A strategy that fails in the middle of a model."""

    name = "broken"
    lossless = False

    def describe(self) -> Mapping[str, Any]:
        return {}

    def quantize(self, weight: lt.Weight, values: np.ndarray) -> lt.QuantizedTensor:
        if weight.layer == 1:
            raise ZeroDivisionError("no scale")
        return lt.QuantizedTensor(values, bits=32)


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_llama()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compare")


@pytest.fixture(scope="module")
def comparison(llama: Any, folder: Path) -> lt.Comparison:
    return lt.compare(
        llama,
        ["int4", Broken(), "no|such", "full_integer", "none"],
        text=TEXTS,
        folder=folder,
        **SIZES,
    )


def test_what_fails_is_a_row_with_its_error_and_the_others_go_on(
    comparison: lt.Comparison,
) -> None:
    names = [outcome.quantizer for outcome in comparison.outcomes]
    assert names == ["int4", "broken", "no|such", "full_integer", "none"]
    assert [report.quantizer for report in comparison.reports] == ["int4", "none"]
    errors = comparison.errors
    assert errors.keys() == {"broken", "no|such", "full_integer"}
    assert errors["broken"].startswith("QuantizationError: the quantizer 'broken' failed on weight")
    assert "layer_1" in errors["broken"]
    assert "ZeroDivisionError: no scale" in errors["broken"]
    assert errors["no|such"].startswith("UnknownPluginNameError: expected a quantizer out of")
    assert "pass calibration" in errors["full_integer"]


def test_no_file_is_left(comparison: lt.Comparison, folder: Path) -> None:
    assert comparison.reports
    assert list(folder.iterdir()) == []


def test_a_row_is_what_evaluate_says_of_the_file(
    comparison: lt.Comparison, llama: Any, tmp_path: Path
) -> None:
    converter = lt.Converter(llama, quantizer="int4", context_length=64, prefill_lengths=(8,))
    artifact = converter.convert(tmp_path / "int4.tflite")
    expected = lt.evaluate(artifact, reference=llama, text=TEXTS, runs=1).to_dict()
    found = comparison.reports[0].to_dict()
    assert {name for name in found if found[name] != expected[name]} == {"speed"}


def test_every_form_has_every_row(comparison: lt.Comparison) -> None:
    facts = json.loads(comparison.to_json())["quantizers"]
    assert [row["quantizer"] for row in facts] == [o.quantizer for o in comparison.outcomes]
    assert facts[0]["report"]["perplexity"] == comparison.reports[0].perplexity
    assert facts[1] == {"quantizer": "broken", "report": None, "error": comparison.errors["broken"]}
    rows = comparison.to_markdown().splitlines()
    assert "58 tokens of 2 texts" in rows[0]
    assert len(rows) == 4 + len(facts)
    assert {row.replace(r"\|", "").count("|") for row in rows[2:]} == {13}
    assert f"| {comparison.reports[0].perplexity:.4f} |" in rows[4]
    assert "ZeroDivisionError" in rows[5]
    page = comparison._repr_html_()
    assert page.count("<tr>") == 1 + len(facts)
    assert "ZeroDivisionError" in page
    assert "ZeroDivisionError" in str(comparison)


def test_the_plot_is_a_picture(comparison: lt.Comparison, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")
    axes = comparison.plot(path).axes[0]
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    drawn = {text.get_text(): text.xy for text in axes.texts}
    assert drawn == {r.quantizer: (r.size_bytes / 1e6, r.perplexity) for r in comparison.reports}
    assert "data:image/png;base64,iVBOR" in comparison._repr_html_()
    with pytest.raises(InvalidOptionError, match=r"ends in \.png"):
        comparison.plot(tmp_path / "plot.jpg")
    failed = lt.Comparison("LlamaCausalLM", (Outcome("broken", error="QuantizationError: x"),))
    with pytest.raises(InvalidOptionError, match="nothing to plot"):
        failed.plot(tmp_path / "other.png")
    assert [file.name for file in tmp_path.iterdir()] == ["plot.png"]
    assert "broken" in failed._repr_html_()


def test_without_matplotlib_the_plot_says_what_to_install_and_the_table_is_shown(
    comparison: lt.Comparison, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingDependencyError, match=r"llm-tflite\[evaluate\]"):
        comparison.plot(tmp_path / "plot.png")
    assert not list(tmp_path.iterdir())
    page = comparison._repr_html_()
    assert "<td>int4</td>" in page
    assert "<img" not in page


def test_an_interrupted_comparison_leaves_nothing(llama: Any, tmp_path: Path) -> None:
    seen = []

    def interrupt(step: Progress) -> None:
        if step.stage == "none: predicting texts":
            seen.extend(path.name for path in tmp_path.rglob("*.tflite"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lt.compare(llama, ["none"], text=TEXTS, folder=tmp_path, progress=interrupt, **SIZES)
    assert seen == ["none.tflite"]
    assert list(tmp_path.iterdir()) == []


class Curious:
    """Eight bits, with a look at what calibration found."""

    name, lossless = "curious", False
    takes_calibration, least_agreement = True, 0.0

    def __init__(self) -> None:
        self.calibrated: set[bool] = set()

    def describe(self) -> Mapping[str, Any]:
        return {}

    def quantize(self, weight: Weight, values: Any) -> QuantizedTensor:
        if weight.role == "projection":
            self.calibrated.add(weight.moments is not None)
        return Int8("dynamic_range", activations="dynamic").quantize(weight, values)


def test_calibration_goes_to_those_that_ask_for_it(llama: Any, tmp_path: Path) -> None:
    curious = Curious()
    found = lt.compare(
        llama,
        ["full_integer", curious, "dynamic_range"],
        text=TEXTS,
        calibration=TEXTS,
        folder=tmp_path,
        **SIZES,
    )
    # Whether integers say enough of what a random model says is not the question here.
    assert "pass calibration" not in found.errors.get("full_integer", "")
    assert curious.calibrated == {True}
    assert [report.quantizer for report in found.reports[-2:]] == ["curious", "dynamic_range"]


@pytest.mark.parametrize(
    ("quantizers", "options", "message"),
    [
        ([], {}, "quantizers must be a list"),
        ("int4", {}, "quantizers must be a list"),
        (["int4", "int4"], {}, "'int4' is there twice"),
        ([object()], {}, "expected a quantization strategy"),
        (["dynamic_range"], {"calibration": TEXTS}, "calibration would be ignored"),
        (["int4"], {"text": []}, "text must be a text"),
        (["int4"], {"runs": 0}, "runs must be"),
        (["int4"], {"context_length": 0}, "context_length must be"),
        (["int4"], {"prefill_lengths": (65,)}, "prefill_lengths must hold"),
    ],
)
def test_what_is_no_fault_of_a_quantizer_is_refused_at_once(
    llama: Any, tmp_path: Path, quantizers: Any, options: dict[str, Any], message: str
) -> None:
    arguments = {"text": TEXTS, "folder": tmp_path, **SIZES, **options}
    with pytest.raises(InvalidOptionError, match=message):
        lt.compare(llama, quantizers, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_texts_that_cannot_be_read_are_no_row(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(PromptError, match="text 0: token id 160"):
        lt.compare(llama, ["none"], text=[[5, 160]], folder=tmp_path, **SIZES)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_refused(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="gone does not exist"):
        lt.compare(llama, ["none"], text=TEXTS, folder=tmp_path / "gone", **SIZES)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedModelError):
        lt.compare(object(), ["none"], text=TEXTS, folder=tmp_path, **SIZES)


@pytest.mark.slow
def test_a_trained_model_loses_little_in_eight_bits_and_more_in_four(tmp_path: Path) -> None:
    model = load_llama2c(fetch(STORIES15M))
    story = (
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the "
        "park with her friends. One day, she saw a big red ball in a tree."
    )
    found = lt.compare(
        model, ["none", "dynamic_range", "int4"], text=story, folder=tmp_path, threads=2, runs=1
    )
    assert not found.errors
    none, eight, four = found.reports
    assert none.kl_divergence < 1e-6
    assert none.greedy_prefix_least == 64
    assert none.kl_divergence < eight.kl_divergence < 0.01 < four.kl_divergence < 0.2
    assert abs(eight.perplexity / none.perplexity - 1) < 0.05
    assert four.size_bytes < eight.size_bytes < none.size_bytes / 3
    assert none.perplexity < 6
