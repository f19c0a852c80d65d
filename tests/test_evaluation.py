"""``evaluate``: every figure against the same figure by another way."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite.demo.shapes import tiny_gpt2, tiny_llama
from llm_tflite.errors import (
    ContextOverflowError,
    CorruptArtifactError,
    InvalidOptionError,
    LLMTFLiteError,
    PromptError,
    RuntimeFailureError,
    UnsupportedModelError,
)
from llm_tflite.evaluation.likelihood import divergence_of
from llm_tflite.evaluation.references import KerasReference, artifact_weights
from llm_tflite.evaluation.speed import measure_in_turns, measure_speed
from llm_tflite.evaluation.tables import html_table, markdown_table
from llm_tflite.evaluation.texts import windows
from llm_tflite.interpreter import Interpreter
from llm_tflite.plugins import load_plugins
from llm_tflite.quantization import Weight, quantize
from llm_tflite.tracing.float_code import float_code
from llm_tflite.tracing.reference import keras_logits

# Keras 3 reads its variables through an old form of NumPy's protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CONTEXT = 64
TEXTS = [
    "The quick brown fox jumps over the lazy dog, and the dog sleeps on in the sun.",
    "In the evening the people of the town walk along the river.",
]


@pytest.fixture(scope="module")
def llama() -> Any:
    """A Llama in which one matrix has a column of outliers, so that its scales are too large."""
    model = tiny_llama()
    (spoilt,) = (v for v in model.variables if "layer_1" in v.path and "attention/key" in v.path)
    values = np.array(spoilt)
    values[0] *= 100
    spoilt.assign(values)
    return model


@pytest.fixture(scope="module")
def texts() -> list[list[int]]:
    return np.random.default_rng(0).integers(0, 160, (3, 50)).tolist()


@pytest.fixture(scope="module")
def files(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    paths = {}
    for name in ("none", "float16", "dynamic_range", "int4"):
        converter = lt.Converter(
            llama, quantizer=name, context_length=CONTEXT, prefill_lengths=(8,)
        )
        paths[name] = converter.convert(folder / f"{name}.tflite").path
    return paths


@pytest.fixture(scope="module")
def reports(llama: Any, files: dict[str, Path], texts: list[list[int]]) -> dict[str, lt.Report]:
    return {
        name: lt.evaluate(files[name], reference=llama, text=texts, greedy_tokens=16, runs=1)
        for name in ("none", "dynamic_range", "int4")
    }


def nll(logits: np.ndarray, following: list[int]) -> np.ndarray:
    """Negative log-likelihood of each token, in float64."""
    scores = logits.astype(np.float64)
    probabilities = np.exp(scores - scores.max(-1, keepdims=True))
    probabilities /= probabilities.sum(-1, keepdims=True)
    return -np.log(probabilities[np.arange(len(following)), following])


# --- likelihood -----------------------------------------------------------------------------------


def test_perplexity_and_divergence_are_those_computed_from_keras_logits(
    gpt2: Any, litertlm_path: Path
) -> None:
    report = lt.evaluate(litertlm_path, reference=gpt2, text=TEXTS, runs=1)
    losses = []
    with Interpreter(litertlm_path) as interpreter:
        for text in TEXTS:
            ids = [50256, *interpreter.tokenize(text)]
            losses.append(nll(keras_logits(gpt2, ids[:-1]), ids[1:]))
    expected = math.exp(np.concatenate(losses).mean())
    assert report.tokens == sum(map(len, losses))
    assert report.perplexity == pytest.approx(expected, rel=1e-5)
    assert report.reference_perplexity == pytest.approx(expected, rel=1e-5)
    assert report.kl_divergence < 1e-6
    assert report.top1_agreement == 1
    assert report.greedy_prefixes == tuple(
        min(report.greedy_limit, CONTEXT - (len(loss) + 1) // 2) for loss in losses
    )
    assert {matrix.error for matrix in report.matrices} == {0.0}


def test_a_long_text_is_read_in_windows_that_predict_every_token_but_the_first_once(
    llama: Any, files: dict[str, Path]
) -> None:
    ids = np.random.default_rng(1).integers(0, 160, 122).tolist()
    report = lt.evaluate(files["none"], reference=llama, text=[ids], window=40, runs=1)
    parts = [ids[0:41], ids[40:81], ids[80:121], ids[120:122]]
    losses = np.concatenate([nll(keras_logits(llama, p)[:-1], p[1:]) for p in parts])
    assert (report.window, report.tokens) == (40, 121)
    assert report.perplexity == pytest.approx(math.exp(losses.mean()), rel=1e-5)


@pytest.mark.parametrize("length", [1, 2, 3, 7])
@pytest.mark.parametrize("count", [2, 3, 7, 8, 9])
def test_windows_cover_a_text(count: int, length: int) -> None:
    parts = list(windows(range(count), length))
    assert [token for part in parts for token in part[1:]] == list(range(1, count))
    assert all(2 <= len(part) <= length + 1 for part in parts)


def test_fewer_bits_are_worse_and_smaller(reports: dict[str, lt.Report]) -> None:
    none, eight, four = (reports[name] for name in ("none", "dynamic_range", "int4"))
    assert none.kl_divergence < 1e-6 < eight.kl_divergence < four.kl_divergence
    assert none.size_bytes > eight.size_bytes > four.size_bytes
    assert none.top1_agreement == 1 > four.top1_agreement


def test_the_divergence_is_that_of_the_file_from_the_model(
    llama: Any, files: dict[str, Path], texts: list[list[int]], reports: dict[str, lt.Report]
) -> None:
    divergences, equal = [], []
    with Interpreter(files["int4"]) as interpreter:
        for ids in texts:
            for true, found in zip(
                keras_logits(llama, ids[:-1]), interpreter.logits(ids[:-1]), strict=True
            ):
                p, q = (np.exp(x - np.logaddexp.reduce(x)) for x in np.float64([true, found]))
                divergences.append((p * np.log(p / q)).sum())
                equal.append(p.argmax() == q.argmax())
    assert reports["int4"].kl_divergence == pytest.approx(np.mean(divergences), rel=1e-6)
    assert reports["int4"].top1_agreement == np.mean(equal)


def test_tokens_that_are_ruled_out_add_nothing_to_the_divergence() -> None:
    true, found = np.log([0.5, 0.5]), np.log([0.25, 0.75])
    ruled_out = [-np.inf]
    expected = 0.5 * math.log(2) + 0.5 * math.log(2 / 3)
    assert divergence_of(true, found) == pytest.approx(expected)
    both = divergence_of(np.append(true, ruled_out), np.append(found, ruled_out))
    assert both == pytest.approx(expected)
    assert divergence_of(true, np.array([0.0, -np.inf])) == np.inf


def test_without_a_reference_all_that_needs_none_is_there(files: dict[str, Path]) -> None:
    text = [[5, 17, 33, 9, 100]]
    report = lt.evaluate(files["int4"], text=text, runs=1)
    with Interpreter(files["int4"]) as interpreter:
        assert report.perplexity == pytest.approx(interpreter.score(text[0]).perplexity, rel=1e-5)
    facts = report.to_dict()
    missing = {name for name, value in facts.items() if value in (None, ())}
    assert missing == {
        "threads",
        "reference",
        "reference_perplexity",
        "kl_divergence",
        "top1_agreement",
        "greedy_prefixes",
        "greedy_prefix_mean",
        "greedy_prefix_least",
        "matrices",
    }
    assert "KL" not in report.to_markdown()


def test_a_float_file_is_as_good_a_reference_as_its_model(
    files: dict[str, Path], texts: list[list[int]], reports: dict[str, lt.Report]
) -> None:
    options = {"text": texts, "greedy_tokens": 16, "runs": 1}
    found = lt.evaluate(files["int4"], reference=files["none"], **options)
    expected = reports["int4"]
    assert found.kl_divergence == pytest.approx(expected.kl_divergence, rel=1e-3)
    assert found.top1_agreement == expected.top1_agreement
    assert found.greedy_prefixes == expected.greedy_prefixes
    assert found.matrices == expected.matrices
    assert found.reference == "LlamaCausalLM in none.tflite"


def test_the_forward_layout_predicts_the_same_and_writes_nothing(
    llama: Any, texts: list[list[int]], tmp_path: Path, reports: dict[str, lt.Report]
) -> None:
    path = tmp_path / "forward.tflite"
    converter = lt.Converter(llama, layout="forward", quantizer="dynamic_range", max_length=CONTEXT)
    report = lt.evaluate(converter.convert(path), reference=llama, text=texts, runs=1)
    expected = reports["dynamic_range"]
    assert report.kl_divergence == pytest.approx(expected.kl_divergence, rel=0.2)
    assert report.matrices == expected.matrices
    assert report.greedy_prefixes == ()
    assert report.speed.decode_tokens_per_s is None
    assert report.speed.prefill_tokens_per_s > 0
    assert "| decode | - tokens/s |" in report.to_markdown()


def test_a_model_in_bfloat16_is_compared_in_float32(texts: list[list[int]], tmp_path: Path) -> None:
    model = tiny_llama(dtype="bfloat16")
    converter = lt.Converter(model, quantizer="none", context_length=CONTEXT, prefill_lengths=(8,))
    artifact = converter.convert(tmp_path / "none.tflite")
    report = lt.evaluate(artifact, reference=model, text=texts, greedy_tokens=16, runs=1)
    assert report.kl_divergence < 1e-6
    assert report.greedy_prefix_least == 16
    assert {matrix.error for matrix in report.matrices} == {0.0}


# --- greedy answers -------------------------------------------------------------------------------


def test_the_common_prefix_is_where_two_greedy_answers_part(
    files: dict[str, Path], texts: list[list[int]], reports: dict[str, lt.Report]
) -> None:
    expected = []
    with Interpreter(files["none"]) as ours, Interpreter(files["int4"]) as theirs:
        for ids in texts:
            answers = [
                i.generate(ids[:25], max_new_tokens=16, stop_token_ids=()).token_ids
                for i in (ours, theirs)
            ]
            same = [a == b for a, b in zip(*answers, strict=True)]
            expected.append([*same, False].index(False))
    report = reports["int4"]
    assert report.greedy_prefixes == tuple(expected)
    assert report.greedy_prefix_mean == np.mean(expected) < 16
    assert report.greedy_prefix_least == min(expected)


def test_as_many_texts_are_continued_as_asked(
    llama: Any, files: dict[str, Path], texts: list[list[int]]
) -> None:
    report = lt.evaluate(files["none"], reference=llama, text=texts, greedy_texts=2, runs=1)
    assert len(report.greedy_prefixes) == 2


# --- matrices -------------------------------------------------------------------------------------


def test_the_matrix_whose_scales_are_spoilt_is_the_worst(reports: dict[str, lt.Report]) -> None:
    worst, second = reports["dynamic_range"].matrices[:2]
    assert worst.name == "transformer_layer_1/self_attention/key/kernel"
    # Outliers make up nearly all of the matrix, so the error is in what is beside them.
    assert (worst.bits, second.bits) == (8, 8)
    errors = [matrix.error for matrix in reports["dynamic_range"].matrices]
    assert errors == sorted(errors, reverse=True)
    assert 0 < errors[-1] < 0.02


@pytest.mark.parametrize("name", ["none", "float16", "dynamic_range", "int4"])
def test_weights_are_read_back_as_the_quantizer_made_them(
    name: str, llama: Any, files: dict[str, Path]
) -> None:
    strategy = load_plugins().quantizer(name)
    originals = artifact_weights(lt.Artifact.open(files["none"]))
    stored = artifact_weights(lt.Artifact.open(files[name]))
    assert len(stored) > 20
    for (weight, original), (_, found) in zip(originals, stored, strict=True):
        facts = Weight(weight.name, weight.role, weight.shape)
        expected = quantize(strategy, facts, original.dequantize()).dequantize()
        np.testing.assert_allclose(found.dequantize(), expected, rtol=1e-6)
    (embedding,) = (s for w, s in originals if w.name == "token_embedding/embeddings")
    np.testing.assert_array_equal(
        embedding.dequantize(), np.array(llama.backbone.token_embedding.embeddings)
    )


# --- speed and memory -----------------------------------------------------------------------------


def test_speed_and_memory_are_measured(reports: dict[str, lt.Report]) -> None:
    report = reports["none"]
    speed = report.speed
    assert (speed.prompt_tokens, speed.new_tokens) == (32, 32)
    assert speed.load_s > 0
    assert speed.prefill_tokens_per_s > 0
    assert speed.decode_tokens_per_s > 0
    assert 10e6 < speed.idle_memory_bytes < speed.peak_memory_bytes < 1e9
    assert report.bytes_per_parameter == report.size_bytes / report.parameters > 4


def test_a_process_that_fails_is_an_error_that_says_why(tmp_path: Path) -> None:
    with pytest.raises(RuntimeFailureError, match=r"gone\.tflite failed.*ArtifactNotFoundError"):
        measure_speed(tmp_path / "gone.tflite", threads=1, runs=1, seed=0)


def test_files_are_measured_in_turns_and_one_that_fails_is_left_behind(
    files: dict[str, Path], tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    paths = [files["none"], tmp_path / "gone.tflite", files["int4"]]
    found = measure_in_turns(
        paths, threads=1, runs=1, seed=0, report=lambda step: steps.append((step.done, step.total))
    )
    assert steps == [(done, 9) for done in range(10)]
    assert isinstance(found[1], RuntimeFailureError)
    for speed in (found[0], found[2]):
        assert not isinstance(speed, RuntimeFailureError)
        assert speed.prefill_tokens_per_s > 0
        assert speed.load_s > 0
        assert speed.peak_memory_bytes


@pytest.mark.parametrize("policy", ["float32", "bfloat16"])
def test_the_reference_reads_a_length_that_comes_often_as_it_reads_any(policy: str) -> None:
    """In a graph from the fourth text on, which follows the weights."""
    llama = tiny_llama(dtype=policy)
    reference = KerasReference(llama)
    for seed in range(6):
        ids = [int(i) for i in np.random.default_rng(seed).integers(0, 160, 20)]
        if seed == 5:
            llama.set_weights([1.5 * weight for weight in llama.get_weights()])
        with float_code(llama):
            expected = keras_logits(llama, ids)
        np.testing.assert_allclose(reference.logits(ids), expected, atol=1e-4)


# --- what is printed ------------------------------------------------------------------------------


def test_a_report_is_the_same_in_every_form(reports: dict[str, lt.Report]) -> None:
    report = reports["int4"]
    facts = json.loads(report.to_json())
    assert facts["perplexity"] == report.perplexity
    assert facts["matrices"][0]["name"] == report.matrices[0].name
    assert facts["speed"] == dataclasses.asdict(report.speed)
    page = report.to_markdown()
    assert page == report._repr_markdown_()
    for text in (f"| perplexity | {report.perplexity:.4f} |", report.matrices[0].name):
        assert text in page
    assert f"{report.size_bytes:,} bytes" in str(report)


def test_a_cell_stays_a_cell() -> None:
    assert markdown_table(("a", "b"), [("x|y", "1\n2")], numbers=("b",)) == (
        "| a | b |\n|---|---:|\n| x\\|y | 1 2 |\n"
    )
    assert "<td>&lt;b&gt;</td>" in html_table(("a",), [("<b>",)])


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"text": []}, InvalidOptionError, "text must be a text, or a list"),
        ({"text": 5}, InvalidOptionError, "got 5"),
        ({"text": [1, 2, 3]}, InvalidOptionError, "put it into a list"),
        ({"text": [[5, 6], [7]]}, PromptError, "text 1: expected at least 2 tokens"),
        ({"text": [[5, 6], []]}, PromptError, "text 1: the prompt is empty"),
        ({"text": [[5, 160]]}, PromptError, "text 0: token id 160"),
        ({"text": "words"}, PromptError, "text 0: this artifact has no tokenizer"),
        ({"window": CONTEXT + 1}, InvalidOptionError, "window must be"),
        ({"window": 0}, InvalidOptionError, "window must be"),
        ({"runs": 0}, InvalidOptionError, "runs must be"),
        ({"greedy_texts": -1}, InvalidOptionError, "greedy_texts must be"),
        ({"greedy_tokens": 0}, InvalidOptionError, "greedy_tokens must be"),
        ({"threads": 0}, InvalidOptionError, "threads must be"),
        ({"reference": object()}, UnsupportedModelError, "object"),
    ],
)
def test_what_makes_no_report_is_refused(
    files: dict[str, Path], options: dict[str, Any], error: type[LLMTFLiteError], message: str
) -> None:
    with pytest.raises(error, match=message):
        lt.evaluate(files["none"], **{"text": [[5, 6]], **options})


def test_a_text_without_tokens_is_refused(litertlm_path: Path) -> None:
    with pytest.raises(PromptError, match="text 0: expected at least 2 tokens"):
        lt.evaluate(litertlm_path, text="")


def test_another_model_is_no_reference(files: dict[str, Path], gpt2: Any) -> None:
    with pytest.raises(InvalidOptionError, match="vocabulary of 160 tokens; it has 50257"):
        lt.evaluate(files["none"], reference=gpt2, text=[[5, 6]])
    with pytest.raises(InvalidOptionError, match="it has no token_embedding/rev"):
        lt.evaluate(files["none"], reference=tiny_gpt2(), text=[[5, 6]], runs=1)


def test_a_quantized_file_is_no_reference(files: dict[str, Path]) -> None:
    with pytest.raises(InvalidOptionError, match=r"float32 file.*in 8 bits"):
        lt.evaluate(files["none"], reference=files["int4"], text=[[5, 6]])


def test_a_file_that_gives_no_logits_is_refused(gpt2: Any, tmp_path: Path) -> None:
    path = tmp_path / "generate.tflite"
    lt.Converter(gpt2, layout="generate", max_length=24, quantizer="int4").convert(path)
    with pytest.raises(InvalidOptionError, match="'generate' gives text and no logits"):
        lt.evaluate(path, text=TEXTS)


def test_a_file_that_was_changed_is_refused(
    llama: Any, files: dict[str, Path], tmp_path: Path
) -> None:
    data = bytearray(files["int4"].read_bytes())
    data[100] ^= 255
    path = tmp_path / "changed.tflite"
    path.write_bytes(data)
    with pytest.raises(CorruptArtifactError):
        lt.evaluate(path, reference=llama, text=[[5, 6]])


def test_an_artifact_in_memory_is_refused(files: dict[str, Path]) -> None:
    artifact = lt.Artifact.from_bytes(files["int4"].read_bytes())
    with pytest.raises(InvalidOptionError, match="this one is in memory"):
        lt.evaluate(artifact, text=[[5, 6]])


# --- logits ---------------------------------------------------------------------------------------


def test_logits_are_those_of_keras_and_stop_at_the_context(
    llama: Any, files: dict[str, Path]
) -> None:
    ids = np.random.default_rng(2).integers(0, 160, CONTEXT).tolist()
    with Interpreter(files["none"]) as interpreter:
        found = np.stack(list(interpreter.logits(ids)))
        np.testing.assert_allclose(found, keras_logits(llama, ids), atol=1e-3)
        with pytest.raises(ContextOverflowError, match=f"at most {CONTEXT} tokens can be read"):
            interpreter.logits([*ids, 1])
        given_up = interpreter.logits(ids)
        next(given_up)
        del given_up
        np.testing.assert_array_equal(next(interpreter.logits(ids)), found[0])
