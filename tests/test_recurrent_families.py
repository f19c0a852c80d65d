"""RWKV-7 and Qwen 3.5: what a layer remembers is a state, which no pad may touch."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recurrent_models
from official_engine import official_texts
from recurrent_models import VOCABULARY_SIZE

import llm_tflite as lt
from llm_tflite.demo.families import FAMILIES
from llm_tflite.runtime import RuntimeModel

CONTEXT = 300
SHORT = 256  # the size that a converter makes
PROMPTS = ["The capital of France is", "I", "def quicksort(items):\n", "I", "今天天气很好"]


@dataclass(frozen=True)
class Converted:
    model: Any
    path: Path


@pytest.fixture(
    scope="module",
    params=[recurrent_models.rwkv7, recurrent_models.qwen3_5, recurrent_models.qwen3_5_moe],
    ids=lambda make: make.__name__,
)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    model = request.param()
    path = tmp_path_factory.mktemp("recurrent") / "model.litertlm"
    converter = lt.Converter(
        model, quantizer="none", context_length=CONTEXT, prefill_lengths=(8, 32)
    )
    converter.convert(path)
    return Converted(model, path)


@pytest.fixture(scope="module")
def interpreter(converted: Converted) -> Iterator[lt.Interpreter]:
    with lt.Interpreter(converted.path, threads=1) as opened:
        yield opened


def prompt_of(count: int) -> list[int]:
    return np.random.default_rng(count).integers(0, VOCABULARY_SIZE, count).tolist()


def forward_choices(model: Any, tokens: list[int], count: int) -> list[int]:
    """What Keras' full forward pass puts into each of the last ``count`` places."""
    ids = np.array([tokens], np.int32)
    logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    return [int(token) for token in logits[0, -count - 1 : -1].argmax(-1)]


def generate(interpreter: lt.Interpreter, prompt: list[int] | str, count: int) -> list[int]:
    answer = interpreter.generate(
        prompt, max_new_tokens=count, stop_token_ids=(), context_window=CONTEXT
    )
    return list(answer.token_ids)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 40])
def test_greedy_tokens_are_those_of_the_full_forward_pass(
    converted: Converted, interpreter: lt.Interpreter, length: int
) -> None:
    prompt = prompt_of(length)
    answer = generate(interpreter, prompt, 32)
    assert answer == forward_choices(converted.model, prompt + answer, 32)
    assert len(set(answer)) >= 8, "an answer that repeats itself shows nothing"


def test_token_0_is_a_token(converted: Converted, interpreter: lt.Interpreter) -> None:
    prompt = [0, 11, 0, 0, 257, 0, 40, 1000, 0]
    answer = generate(interpreter, prompt, 8)
    assert answer == forward_choices(converted.model, prompt + answer, 8)


def test_an_answer_outgrows_the_small_caches(
    converted: Converted, interpreter: lt.Interpreter
) -> None:
    prompt = prompt_of(5)
    answer = generate(interpreter, prompt, CONTEXT)
    assert len(answer) == CONTEXT - len(prompt) + 1  # the last token needs no place any more
    assert answer == forward_choices(converted.model, prompt + answer, len(answer))


@pytest.mark.parametrize("length", [SHORT - 1, SHORT, SHORT + 1, CONTEXT - 3])
def test_a_prompt_may_end_where_the_small_caches_end(
    converted: Converted, interpreter: lt.Interpreter, length: int
) -> None:
    prompt = prompt_of(length)
    answer = generate(interpreter, prompt, 3)
    assert answer == forward_choices(converted.model, prompt + answer, 3)


def test_a_generation_leaves_nothing_to_the_next_one(interpreter: lt.Interpreter) -> None:
    prompts = [prompt_of(n) for n in (9, 40, 1, 9)]
    first, _, _, again = [generate(interpreter, prompt, 12) for prompt in prompts]
    assert first == again


def test_streams_run_side_by_side(interpreter: lt.Interpreter) -> None:
    prompts = [prompt_of(n) for n in (3, 12)]
    alone = [generate(interpreter, prompt, 12) for prompt in prompts]
    streams = [
        interpreter.stream(prompt, max_new_tokens=12, stop_token_ids=()) for prompt in prompts
    ]
    together: list[list[int]] = [[], []]
    for chunks in itertools.zip_longest(*streams):
        for tokens, chunk in zip(together, chunks, strict=True):
            tokens.extend(chunk.token_ids if chunk is not None else ())
    assert together == alone


@pytest.mark.parametrize("length", [5, 8, 44, SHORT + 30])
def test_no_call_is_padded(
    interpreter: lt.Interpreter, monkeypatch: pytest.MonkeyPatch, length: int
) -> None:
    read = []
    run = RuntimeModel.run

    def watched(self: RuntimeModel, signature: str, inputs: Any, outputs: Any) -> None:
        read.append(int(re.sub(r"^.*?(\d+)?$", r"\1", signature.removesuffix("decode")) or 1))
        run(self, signature, inputs, outputs)

    monkeypatch.setattr(RuntimeModel, "run", watched)
    generate(interpreter, prompt_of(length), 1)
    assert sum(read) == length
    # Of a prompt of 8, the graphs for the whole context read 7 and decode the last one.
    assert len(read) < length or length <= 8


def test_a_text_begins_with_zeros_whatever_was_left(interpreter: lt.Interpreter) -> None:
    inputs = {"tokens": np.array([[40]], np.int32), "input_pos": np.array([0], np.int32)}
    first = interpreter.run("decode", **inputs)
    logits = first.pop("logits")
    np.testing.assert_array_equal(interpreter.run("decode", **inputs, **first)["logits"], logits)
    inputs["input_pos"] += 1
    later = interpreter.run("decode", **inputs, **first)["logits"]
    assert np.abs(later - logits).max() > 0.1


def test_the_manifest_tells_states_from_slots(converted: Converted) -> None:
    artifact = lt.Artifact.open(converted.path)
    caches = {c.name: (c.shape, c.slot_axis) for c in artifact.manifest.cache}
    assert artifact.manifest.model.exact_prefill
    if "RWKV7" in artifact.manifest.model.class_:
        assert artifact.manifest.model.short_caches == ()
        expected = [((1, 4, 8, 8), None), ((1, 2, 1, 32), None)] * 2
        assert caches == {f"kv_cache_c_{i}": facts for i, facts in enumerate(expected)}
        return
    # The layer with states has no use for keys, and the one with keys has none for states.
    assert artifact.manifest.model.short_caches == (SHORT,)
    assert caches == {
        "kv_cache_k_1": ((1, 2, CONTEXT, 8), 2),
        "kv_cache_v_1": ((1, 2, 8, CONTEXT), 3),
        "kv_cache_c_0": ((1, 32, 3), None),
        "kv_cache_c_1": ((1, 4, 4, 4), None),
    }


def test_nothing_as_large_as_a_cache_is_copied(converted: Converted) -> None:
    from llm_tflite.flatbuffer.model import operator_name, parse

    model = parse(lt.Artifact.open(converted.path).read_model())
    graphs = {
        s.signatureKey.decode(): model.subgraphs[s.subgraphIndex] for s in model.signatureDefs
    }
    copies = [
        operator_name(model, operator)
        for operator in graphs["decode"].operators
        if operator_name(model, operator) in ("TILE", "TRANSPOSE", "PACK", "CONCATENATION")
        and CONTEXT in graphs["decode"].tensors[operator.outputs[0]].shape
    ]
    assert copies == []


def test_the_official_engine_writes_the_same_texts(
    converted: Converted, interpreter: lt.Interpreter
) -> None:
    pytest.importorskip("litert_lm", reason="the official runtime is not installed")
    ours = [interpreter.generate(prompt, max_new_tokens=16).text for prompt in PROMPTS]
    assert official_texts(converted.path, PROMPTS, 16) == ours


def test_keras_generate_reads_the_last_token_of_a_prompt_twice_and_the_file_does_not(
    converted: Converted, interpreter: lt.Interpreter
) -> None:
    """generate() fills Qwen's states with the whole prompt, then feeds its last token once more."""
    model, prompt = converted.model, prompt_of(8)
    ids, mask = np.zeros((1, 16), np.int32), np.zeros((1, 16), bool)
    ids[0, :8], mask[0, :8] = prompt, True
    if "RWKV7" in type(model).__name__:  # its generate() keeps the last token back
        inputs = {"token_ids": ids[:, :7], "input_padding_mask": np.ones((1, 7), np.int32)}
        last = np.zeros((1, 9), np.int32)
        last[0, 0] = prompt[-1]
        inputs |= {"predict_token_ids": last, "padding_mask": last > 0}
    else:
        inputs = {"token_ids": ids, "padding_mask": mask}
    model.compile(sampler="greedy")
    preprocessor, model.preprocessor = model.preprocessor, None
    try:
        outputs = model.generate(inputs, stop_token_ids=None)
    finally:
        model.preprocessor = preprocessor
    theirs = [int(token) for token in np.asarray(outputs["token_ids"])[0, 8:]]
    ours = generate(interpreter, prompt, 8)
    assert ours == forward_choices(model, prompt + ours, 8)
    agrees = "RWKV7" in type(model).__name__
    assert (theirs == ours) == agrees
    notes = " ".join(lt.Artifact.open(converted.path).manifest.check.get("notes", ()))
    assert ("last token of a prompt twice" in notes) != agrees


def test_prefill_lengths_need_not_divide_one_another(tmp_path: Path) -> None:
    model = recurrent_models.rwkv7()
    path = tmp_path / "m.tflite"
    converter = lt.Converter(model, quantizer="none", context_length=36, prefill_lengths=(8, 12))
    artifact = converter.convert(path)
    assert artifact.manifest.check is not None
    assert set(artifact.manifest.check["prefill"]) == {
        "prefill_1",
        "exact_prefill_8",
        "exact_prefill_12",
    }
    with lt.Interpreter(path, threads=1) as interpreter:
        prompt = prompt_of(21)
        answer = list(interpreter.generate(prompt, max_new_tokens=15, context_window=36).token_ids)
    assert answer == forward_choices(model, prompt + answer, 15)


def test_a_quantized_file_keeps_most_of_what_the_model_says(tmp_path: Path) -> None:
    model = recurrent_models.rwkv7()
    converter = lt.Converter(
        model, quantizer="dynamic_range", context_length=64, prefill_lengths=(8,)
    )
    artifact = converter.convert(tmp_path / "m.tflite")
    assert artifact.manifest.check is not None
    assert artifact.manifest.check["greedy"]["correlation"] > 0.9


def test_the_layout_generate_pads_nothing_either(tmp_path: Path) -> None:
    model = recurrent_models.qwen3_5()
    path = tmp_path / "m.tflite"
    lt.Converter(model, layout="generate", quantizer="none", max_length=24).convert(path)
    tokenizer = model.preprocessor.tokenizer
    ids = np.asarray(tokenizer("The capital of France is"))
    prompt = [tokenizer.start_token_id, *map(int, ids)]
    with lt.Interpreter(path, threads=1) as interpreter:
        answer = interpreter.generate("The capital of France is", stop_token_ids=None)
    tokens = list(answer.token_ids)
    assert len(tokens) == 24 - len(prompt)
    assert tokens == forward_choices(model, prompt + tokens, len(tokens))


def test_the_layout_forward_takes_an_unrolled_recurrence(tmp_path: Path) -> None:
    model = recurrent_models.rwkv7()
    lt.Converter(model, layout="forward", quantizer="none", max_length=12).convert(
        tmp_path / "m.tflite"
    )
    ids = np.array([prompt_of(12)], np.int32)
    inputs = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    with lt.Interpreter(tmp_path / "m.tflite", threads=1) as interpreter:
        found = interpreter.run("serving_default", **inputs)["logits"]
    expected = np.asarray(model(inputs))
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_rwkv_reads_and_writes_text(tmp_path: Path) -> None:
    model = FAMILIES["rwkv7"].make(text=True)
    tokenizer = model.preprocessor.tokenizer
    path = tmp_path / "model.litertlm"
    options: dict[str, Any] = {"context_length": 64, "prefill_lengths": (4,)}
    lt.Converter(model, quantizer="none", **options).convert(path)
    text = "The river runs past the old mill"
    prompt = [int(token) for token in tokenizer(text)]
    with lt.Interpreter(path) as interpreter:
        completion = interpreter.generate(text, max_new_tokens=8, stop_token_ids=())
    answer = list(completion.token_ids)
    assert answer == forward_choices(model, prompt + answer, 8)
    pieces = [tokenizer._tokenizer.idx2token[token] for token in answer]
    assert completion.text == b"".join(pieces).decode("utf-8", "replace")
