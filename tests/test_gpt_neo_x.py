"""GPT-NeoX: KerasHub's cached path is not its forward pass, and a file follows the latter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemma_models
import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite.artifact import Artifact
from llm_tflite.tracing.cached_paths import cached_paths, differences
from llm_tflite.tracing.reference import keras_logits

CONTEXT = 64
PROMPT = [5, 17, 33, 8, 90, 41, 77, 12]
NEW_TOKENS = 32


@pytest.fixture(scope="module")
def model() -> Any:
    return gemma_models.gpt_neo_x()


@pytest.fixture(scope="module")
def artifact(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    path = tmp_path_factory.mktemp("neox") / "model.tflite"
    converter = lt.Converter(
        model, quantizer="none", context_length=CONTEXT, prefill_lengths=(4, 16)
    )
    return converter.convert(path)


def follows_the_forward_pass(model: Any, tokens: list[int]) -> bool:
    """Whether each of ``tokens`` is what the forward pass chooses after those before it."""
    logits = keras_logits(model, PROMPT + tokens)
    return tokens == logits[len(PROMPT) - 1 : -1].argmax(-1).tolist()


def of_generate(model: Any) -> list[int]:
    model.compile(sampler="greedy")
    length = len(PROMPT) + NEW_TOKENS
    ids = np.array([PROMPT + [0] * NEW_TOKENS], np.int32)
    mask = np.arange(length)[None] < len(PROMPT)
    outputs = model.generate({"token_ids": ids, "padding_mask": mask}, stop_token_ids=None)
    return [int(token) for token in np.asarray(outputs["token_ids"])[0, len(PROMPT) :]]


def test_a_file_writes_what_the_forward_pass_does_and_generate_does_not(
    model: Any, artifact: Artifact
) -> None:
    with lt.Interpreter(artifact.path) as interpreter:
        found = interpreter.generate(PROMPT, max_new_tokens=NEW_TOKENS, stop_token_ids=())
    assert len(set(found.token_ids)) >= 8, "a model without opinions shows nothing"
    assert follows_the_forward_pass(model, list(found.token_ids))
    # When this fails, KerasHub rotates as it should: see docs/keras_differences.md.
    assert not follows_the_forward_pass(model, of_generate(model))


def test_with_the_rule_generate_is_the_forward_pass(model: Any) -> None:
    model.generate_function = None  # what was traced before does not know the rule
    with cached_paths(model):
        found = of_generate(model)
    model.generate_function = None
    assert follows_the_forward_pass(model, found)
    assert all("call" not in vars(layer) for layer in model._flatten_layers())


def test_the_manifest_says_in_what_it_differs(model: Any, gpt2: Any, artifact: Artifact) -> None:
    assert artifact.manifest.check is not None
    (note,) = artifact.manifest.check["notes"]
    assert note.startswith("differs from Keras' generate")
    assert differences(model) == [note]
    assert differences(gpt2) == []


def test_no_key_is_rotated_twice(artifact: Artifact) -> None:
    operators = {s.name: s.operators for s in lt.inspect(artifact.path).models[0].signatures}
    decode = operators["decode"]
    assert "TRANSPOSE" not in decode
    assert "TILE" not in decode
    assert decode["DYNAMIC_UPDATE_SLICE"] == 6


def test_eight_bits_agree_with_keras(model: Any, tmp_path: Path) -> None:
    converter = lt.Converter(model, context_length=CONTEXT, prefill_lengths=(8,))
    check = converter.convert(tmp_path / "model.tflite").manifest.check
    assert check is not None
    assert check["greedy"]["correlation"] > 0.9
