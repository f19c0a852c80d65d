"""A text moves from small caches to larger ones while it grows, and nobody can tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt

CONTEXT = 600
SHORT, NEXT = 256, 512  # the sizes that a converter makes


@pytest.fixture(scope="module")
def llama() -> Any:
    import keras_hub

    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=97,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=48,
    )
    random = np.random.default_rng(5)
    for weight in backbone.weights:
        if len(weight.shape) >= 2:
            weight.assign(random.normal(0, 0.3, weight.shape).astype(np.float32))
    return keras_hub.models.LlamaCausalLM(backbone, preprocessor=None)


@pytest.fixture(scope="module")
def path(llama: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("decoding") / "llama.tflite"
    lt.Converter(llama, quantizer="none", context_length=CONTEXT, prefill_lengths=(8, 32)).convert(
        target
    )
    return target


def continuation(model: Any, tokens: list[int], count: int) -> list[int]:
    """What Keras' full forward pass puts after every one of the last ``count`` places."""
    ids = np.array([tokens], np.int32)
    logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    return [int(token) for token in logits[0, -count - 1 : -1].argmax(-1)]


def test_an_answer_outgrows_the_small_caches(llama: Any, path: Path) -> None:
    prompt = [3, 14, 15, 92, 65]
    with lt.Interpreter(path, threads=1) as interpreter:
        first = interpreter.generate(prompt, max_new_tokens=20)
        long = interpreter.generate(prompt, max_new_tokens=CONTEXT)
        again = interpreter.generate(prompt, max_new_tokens=20)
    count = len(long.token_ids)
    # The last token needs no slot any more.
    assert (count, long.finish_reason) == (CONTEXT - len(prompt) + 1, "context")
    assert list(long.token_ids) == continuation(llama, [*prompt, *long.token_ids], count)
    assert len(set(long.token_ids)) >= 8, "an answer that repeats itself shows nothing"
    assert first.token_ids == again.token_ids == long.token_ids[:20]


@pytest.mark.parametrize(
    "length", [SHORT - 1, SHORT, SHORT + 1, NEXT - 33, NEXT - 1, NEXT, NEXT + 1]
)
def test_a_prompt_may_end_where_the_small_caches_end(llama: Any, path: Path, length: int) -> None:
    prompt = np.random.default_rng(length).integers(0, 97, length).tolist()
    with lt.Interpreter(path, threads=1) as interpreter:
        answer = interpreter.generate(prompt, max_new_tokens=6, context_window=CONTEXT)
    assert list(answer.token_ids) == continuation(llama, [*prompt, *answer.token_ids], 6)


def test_a_raw_run_is_kept_inside_the_caches_of_its_signature(path: Path) -> None:
    with lt.Interpreter(path, threads=1) as interpreter:
        inputs = {"tokens": np.array([[5]], np.int32), "input_pos": np.array([SHORT], np.int32)}
        interpreter.run("decode", **inputs)
        with pytest.raises(lt.errors.ContextOverflowError, match=rf"0\.\.{SHORT - 1}"):
            interpreter.run(f"cache_{SHORT}_decode", **inputs)


@pytest.mark.parametrize("row", [0, 4, 31])
def test_a_short_prefill_graph_gives_the_logits_of_the_row_that_is_asked_for(
    llama: Any, path: Path, row: int
) -> None:
    tokens = np.random.default_rng(row).integers(0, 97, (1, 32)).astype(np.int32)
    with lt.Interpreter(path, threads=1) as interpreter:
        outputs = interpreter.run(
            f"cache_{SHORT}_prefill_32",
            tokens=tokens,
            input_pos=np.arange(32, dtype=np.int32),
            logits_row=np.array([row], np.int32),
        )
    expected = np.asarray(llama({"token_ids": tokens, "padding_mask": np.ones_like(tokens)}))
    assert np.abs(outputs["logits"][0, 0] - expected[0, row]).max() < 1e-4


@pytest.mark.parametrize("row", [-1, 32])
def test_a_row_that_a_call_does_not_have_is_refused(path: Path, row: int) -> None:
    inputs = {
        "tokens": np.zeros((1, 32), np.int32),
        "input_pos": np.arange(32, dtype=np.int32),
        "logits_row": np.array([row], np.int32),
    }
    refused = pytest.raises(lt.errors.InvalidOptionError, match="logits_row")
    with lt.Interpreter(path, threads=1) as interpreter, refused:
        interpreter.run(f"cache_{SHORT}_prefill_32", **inputs)


def test_the_head_of_a_prefill_graph_multiplies_one_row(path: Path) -> None:
    from llm_tflite.flatbuffer.model import operator_name, parse

    model = parse(path.read_bytes())
    signatures = {s.signatureKey.decode(): s.subgraphIndex for s in model.signatureDefs}
    graph = model.subgraphs[signatures[f"cache_{SHORT}_prefill_32"]]
    heads = [
        graph.tensors[operator.outputs[0]].shape
        for operator in graph.operators
        if operator_name(model, operator) == "FULLY_CONNECTED"
        and graph.tensors[operator.outputs[0]].shape[-1] == 97
    ]
    assert [int(np.prod(shape)) for shape in heads] == [97]
