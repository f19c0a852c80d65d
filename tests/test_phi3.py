"""Phi-3 with factors for short and for long texts: a file holds texts that need the short ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite.demo.families import FAMILIES
from llm_tflite.errors import InvalidOptionError
from llm_tflite.tracing.cached_paths import differences, short_factor_limit
from llm_tflite.tracing.reference import keras_logits

LIMIT = FAMILIES["phi3_su"].config["pretraining_sequence_length"]
PROMPT = [5, 17, 33, 101, 7, 64, 12, 90, 3, 44, 28, 71]


@pytest.fixture(scope="module")
def model() -> Any:
    return FAMILIES["phi3_su"].make()


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("phi3") / "m.tflite"
    lt.Converter(model, quantizer="none", prefill_lengths=(8,)).convert(path)
    return path


def chosen(model: Any, tokens: list[int]) -> list[int]:
    """What the forward pass over all of them chooses behind the prompt."""
    return keras_logits(model, tokens)[len(PROMPT) - 1 : -1].argmax(-1).tolist()


def test_a_text_that_fills_the_context_follows_the_forward_pass(model: Any, path: Path) -> None:
    with lt.Interpreter(path, threads=1) as interpreter:
        completion = interpreter.generate(PROMPT, max_new_tokens=LIMIT, stop_token_ids=())
    assert completion.finish_reason == "context"
    tokens = list(completion.token_ids)
    assert len(PROMPT) + len(tokens) >= LIMIT
    assert len(set(tokens)) >= 8, "a model without opinions shows nothing"
    read = (PROMPT + tokens)[:LIMIT]
    assert read[len(PROMPT) :] == chosen(model, read)


def of_generate(model: Any, length: int) -> list[int]:
    ids = np.zeros((1, length), np.int32)
    ids[0, : len(PROMPT)] = PROMPT
    mask = np.arange(length)[None] < len(PROMPT)
    model.compile(sampler="greedy")
    outputs = model.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)
    tokens: list[int] = np.asarray(outputs["token_ids"])[0].tolist()
    return tokens


def test_kerashub_rotates_a_text_that_grows_long_by_both_kinds(model: Any) -> None:
    """When this fails, KerasHub rotates as its forward pass: a file could hold longer texts."""
    tokens = of_generate(model, LIMIT)
    assert tokens[len(PROMPT) :] == chosen(model, tokens)
    tokens = of_generate(model, 2 * LIMIT)
    assert tokens[len(PROMPT) :] != chosen(model, tokens)


def test_the_context_is_the_limit_where_nobody_says(model: Any, path: Path) -> None:
    assert short_factor_limit(model) == LIMIT
    assert lt.Artifact.open(path).manifest.model.context_length == LIMIT
    assert differences(model) == []


def test_no_step_chooses_between_factors(path: Path) -> None:
    for signature in lt.inspect(path).models[0].signatures:
        assert signature.operators
        assert "GREATER" not in signature.operators


@pytest.mark.parametrize(
    ("layout", "option"),
    [
        ("prefill_decode", "context_length"),
        ("generate", "max_length"),
        ("forward", "max_length"),
    ],
)
def test_a_context_of_long_texts_is_refused(layout: str, option: str) -> None:
    model = FAMILIES["phi3_su"].make(text=True)
    message = f"{option} is {2 * LIMIT}.*by other factors.*pass {option}={LIMIT} or less"
    with pytest.raises(InvalidOptionError, match=message):
        lt.Converter(model, layout=layout, **{option: 2 * LIMIT})


def test_a_preprocessor_for_long_texts_needs_an_option() -> None:
    model = FAMILIES["phi3_su"].make(text=True)
    model.preprocessor.sequence_length = 2 * LIMIT
    for layout in ("generate", "forward"):
        with pytest.raises(InvalidOptionError, match=f"pass max_length={LIMIT} or less"):
            lt.Converter(model, layout=layout)
