"""The float32 artifact says, token for token, what Keras' own ``generate`` says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from material import gpt2_vocabulary, smollm2_gguf
from official_engine import official_texts, same_text

import llm_tflite as lt

CONTEXT = 256
NEW_TOKENS = 200
PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily.",
    "def quicksort(items):\n    if len(items) < 2:\n",
    "今天天气很好，我们去",
    "مرحبا بالعالم",
    "😀 emoji and café",
    "12345 + 67890 =",
    "I",
]


def _tiny_gpt2() -> Any:
    from llm_tflite.demo import shapes

    return shapes.tiny_gpt2(vocabulary=gpt2_vocabulary()[0].parent)


def _gpt2_124m() -> Any:
    from llm_tflite.demo import shapes

    return shapes.gpt2_124m(vocabulary=gpt2_vocabulary()[0].parent)


def _smollm2() -> Any:
    from llm_tflite.demo.gguf_llama import load_gguf_llama

    return load_gguf_llama(smollm2_gguf())


@dataclass(frozen=True)
class Converted:
    model: Any
    path: Path


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(_tiny_gpt2, id="tiny GPT-2"),
        pytest.param(_gpt2_124m, id="GPT-2 124M", marks=pytest.mark.slow),
        pytest.param(_smollm2, id="SmolLM2-135M", marks=pytest.mark.slow),
    ],
)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    from llm_tflite.tracing.requirements import position_limit

    model = request.param()
    path = tmp_path_factory.mktemp("parity") / "model.litertlm"
    # The long context brings the caches of 256 slots too in which these answers are given.
    context_length = min(2 * CONTEXT, position_limit(model) or 2 * CONTEXT)
    lt.Converter(
        model, quantizer="none", context_length=context_length, prefill_lengths=(8, 32)
    ).convert(path)
    return Converted(model, path)


def _keras_tokens(model: Any) -> list[list[int]]:
    """Greedy continuations by Keras' ``generate``, as token ids, prompt included."""
    model.compile(sampler="greedy")
    inputs = model.preprocessor.generate_preprocess(PROMPTS, sequence_length=CONTEXT)
    lengths = np.asarray(inputs["padding_mask"]).sum(axis=1)
    assert lengths.max() + NEW_TOKENS <= CONTEXT, "every prompt must leave room for its answer"
    # Without a preprocessor generate() takes and gives token ids.
    preprocessor, model.preprocessor = model.preprocessor, None
    try:
        outputs = model.generate(inputs, stop_token_ids=None)
    finally:
        model.preprocessor = preprocessor
    ids = np.asarray(outputs["token_ids"])
    return [row[: n + NEW_TOKENS].tolist() for row, n in zip(ids, lengths, strict=True)]


def test_greedy_tokens_and_logits_equal_keras_and_the_official_engine(converted: Converted) -> None:
    references = _keras_tokens(converted.model)
    texts = []
    with lt.Interpreter(converted.path, threads=2) as interpreter:
        for prompt, reference in zip(PROMPTS, references, strict=True):
            completion = interpreter.generate(prompt, max_new_tokens=NEW_TOKENS, stop_token_ids=())
            assert list(completion.token_ids) == reference[completion.prompt_tokens :]
            texts.append(completion.text)
        difference = _largest_logit_difference(converted.model, interpreter, references[0])
    assert difference < 1e-3
    distinct = {token for reference in references for token in reference}
    assert len(distinct) > 100, "references that repeat themselves show nothing"
    official = official_texts(converted.path, PROMPTS, NEW_TOKENS)
    assert list(map(same_text, texts, official)) == [True] * len(PROMPTS)


def _largest_logit_difference(model: Any, interpreter: lt.Interpreter, tokens: list[int]) -> float:
    """Over all positions of one sequence, decoded token by token against one full forward pass."""
    ids = np.array([tokens], np.int32)
    forward = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))[0]
    cache: dict[str, Any] = {}
    difference = 0.0
    for position, token in enumerate(tokens):
        outputs = interpreter.run(
            "decode",
            tokens=np.array([[token]], np.int32),
            input_pos=np.array([position], np.int32),
            **cache,
        )
        logits = outputs.pop("logits")[0, 0]
        cache = outputs
        difference = max(difference, float(np.abs(logits - forward[position]).max()))
    return difference
