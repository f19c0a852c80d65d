"""Each quantized file of a real model in LiteRT-LM's engine and in plain ai-edge-litert."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter as PlainInterpreter
from official_engine import official_texts, same_text

import llm_tflite as lt
from llm_tflite.demo.llama2c import load_llama2c
from llm_tflite.demo.material import STORIES15M, fetch

UNCALIBRATED = (
    "float16",
    "dynamic_range",
    "weight_only_int8",
    "int4_channel",
    "aeq:dynamic_wi8_afp32",
)
CALIBRATED = ("int4", "mixed:0.9", "full_integer")
PROMPTS = ["Once upon a time", "The little dog was", "Lily went to the park and"]
TOKENS = 32
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def stories() -> Any:
    return load_llama2c(fetch(STORIES15M))


@pytest.fixture(scope="module")
def texts(stories: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What the model itself writes, for calibration."""
    path = tmp_path_factory.mktemp("float") / "float.litertlm"
    lt.Converter(stories, quantizer="none").convert(path)
    with lt.Interpreter(path) as interpreter:
        samplings = [lt.Sampling(seed=seed) for seed in range(16)]
        return [interpreter.generate("Once", max_new_tokens=64, sampling=s).text for s in samplings]


def plain_tokens(path: Path, prompt: list[int], count: int) -> list[int]:
    """Decode greedily, one token a call, with nothing but the runtime."""
    decode = PlainInterpreter(model_path=str(path)).get_signature_runner("decode")
    details = decode.get_input_details()
    caches = {
        name: np.zeros(detail["shape"], detail["dtype"])
        for name, detail in details.items()
        if name.startswith("kv_cache")
    }
    tokens = list(prompt)
    for position in range(len(prompt) + count - 1):
        caches = decode(
            tokens=np.array([[tokens[position]]], np.int32),
            input_pos=np.array([position], np.int32),
            **caches,
        )
        logits = caches.pop("logits")
        if position >= len(prompt) - 1:
            tokens.append(int(logits[0, 0].argmax()))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("quantizer", [*UNCALIBRATED, *CALIBRATED])
def test_it_says_the_same_in_every_runtime(
    stories: Any, texts: list[str], tmp_path: Path, quantizer: str
) -> None:
    path = tmp_path / "m.litertlm"
    calibration = texts if quantizer in CALIBRATED else None
    artifact = lt.Converter(stories, quantizer=quantizer, calibration=calibration).convert(path)
    with lt.Interpreter(path) as interpreter:
        answers = [interpreter.generate(prompt, max_new_tokens=TOKENS) for prompt in PROMPTS]
        ids = interpreter.tokenize(PROMPTS[0])
    start = artifact.manifest.tokens.start
    official = official_texts(path, PROMPTS, TOKENS)
    # The engine drops the space that SentencePiece keeps in front of a text's first piece.
    ours = [answer.text.lstrip(" ") for answer in answers]
    assert all(map(same_text, ours, official)), (ours, official)
    assert all(len(text.split()) > 10 for text in official), official
    artifact.save_as(path.with_suffix(".tflite"))
    first = list(answers[0].token_ids)
    assert plain_tokens(path.with_suffix(".tflite"), [start, *ids], len(first)) == first
