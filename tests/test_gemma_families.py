"""Gemma 3n and Gemma 4: caches of several sizes and layouts, some of them of other layers."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gemma_models
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from official_engine import official_texts, same_text

import llm_tflite as lt
from llm_tflite.artifact import Artifact, write_artifact
from llm_tflite.errors import UnsupportedModelError
from llm_tflite.manifest import TokenizerFacts, Tokens
from llm_tflite.tracing.probe import probe_cache
from llm_tflite.tracing.reference import keras_logits

CONTEXT = 64
PROMPT = [5, 17, 33, 8, 90, 41, 77, 12]
NEW_TOKENS = 32

# What copies or moves a tensor instead of computing with it.
_COPIES = {"TRANSPOSE", "TILE", "PAD", "PADV2", "SLICE", "STRIDED_SLICE", "SPLIT", "PACK"}
_COPIES |= {"UNPACK", "CONCATENATION", "RESHAPE", "BROADCAST_TO", "GATHER", "GATHER_ND"}

# Heads and head size of the layers that have a cache of their own.
FAMILIES: dict[str, tuple[Callable[[], Any], list[tuple[int, int]]]] = {
    "gemma3n": (lambda: gemma_models.gemma3n(shared_layers=0), [(2, 8)] * 4),
    "gemma3n, shared": (gemma_models.gemma3n, [(2, 8)] * 2),
    "gemma4": (gemma_models.gemma4, [(2, 8)] * 5 + [(2, 16)]),
    "gemma4, embeddings per layer": (gemma_models.gemma4_e, [(2, 8)] * 2 + [(2, 16)]),
    "gemma4, experts": (gemma_models.gemma4_moe, [(2, 8)] * 5 + [(1, 16)]),
}


@dataclass(frozen=True)
class Converted:
    model: Any
    artifact: Artifact
    heads: list[tuple[int, int]]


@pytest.fixture(scope="module", params=FAMILIES)
def converted(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Converted:
    build, heads = FAMILIES[request.param]
    model = build()
    path = tmp_path_factory.mktemp("gemma") / "model.tflite"
    converter = lt.Converter(
        model, quantizer="none", context_length=CONTEXT, prefill_lengths=(4, 16)
    )
    return Converted(model, converter.convert(path), heads)


def greedy(artifact: Artifact) -> list[int]:
    with lt.Interpreter(artifact.path) as interpreter:
        completion = interpreter.generate(PROMPT, max_new_tokens=NEW_TOKENS, stop_token_ids=())
    return list(completion.token_ids)


def test_greedy_tokens_are_those_of_the_forward_pass(converted: Converted) -> None:
    tokens = greedy(converted.artifact)
    assert len(set(tokens)) >= 8, "a model without opinions shows nothing"
    logits = keras_logits(converted.model, PROMPT + tokens)
    assert tokens == logits[len(PROMPT) - 1 : -1].argmax(-1).tolist()


def test_layers_store_their_own_heads_and_no_others(converted: Converted) -> None:
    shapes = {cache.name: cache.shape for cache in converted.artifact.manifest.cache}
    expected: dict[str, tuple[int, ...]] = {}
    for layer, (heads, size) in enumerate(converted.heads):
        expected[f"kv_cache_k_{layer}"] = (1, heads, CONTEXT, size)
        expected[f"kv_cache_v_{layer}"] = (1, heads, size, CONTEXT)
    assert shapes == expected
    with lt.Interpreter(converted.artifact.path) as interpreter:
        for signature in interpreter.signatures.values():
            assert {n for n in signature.inputs if n.startswith("kv")} == set(expected)
            assert {n for n in signature.outputs if n.startswith("kv")} == set(expected)


def decode_operators(artifact: Artifact) -> Iterator[tuple[str, list[Any], list[Any]]]:
    """Name, inputs and outputs of every operator that decodes."""
    model = schema.ModelT.InitFromPackedBuf(artifact.read_model(), 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if isinstance(v, int)}
    (index,) = [s.subgraphIndex for s in model.signatureDefs if s.signatureKey == b"decode"]
    graph = model.subgraphs[index]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        inputs = [graph.tensors[i] for i in operator.inputs if i >= 0]
        yield name, inputs, [graph.tensors[i] for i in operator.outputs]


def test_no_cache_is_copied_in_decode(converted: Converted) -> None:
    smallest = min(math.prod(cache.shape) for cache in converted.artifact.manifest.cache)
    moved = [
        (name, list(tensor.shape))
        for name, inputs, outputs in decode_operators(converted.artifact)
        if name in _COPIES
        for tensor in (*inputs, *outputs)
        if math.prod(tensor.shape) >= smallest
    ]
    assert not moved


def test_scores_are_masked_once(converted: Converted) -> None:
    """Twice -1e9 would be -2e9 and, of a type with less room, minus infinity."""
    masks: set[bytes] = set()
    masked: set[bytes] = set()
    for name, inputs, outputs in decode_operators(converted.artifact):
        read = {tensor.name for tensor in inputs}
        if name == "SELECT_V2" and outputs[0].shape[-1] == CONTEXT:
            assert not read & (masks | masked)
            (masks if len(inputs[2].shape) == 0 else masked).add(outputs[0].name)
        elif name == "ADD" and read & masks:
            assert not read & masked
            assert len(read & masks) == 1
            masked.add(outputs[0].name)
    assert masks | masked


def test_eight_bits_agree_with_keras(converted: Converted, tmp_path: Path) -> None:
    converter = lt.Converter(converted.model, context_length=CONTEXT, prefill_lengths=(8,))
    artifact = converter.convert(tmp_path / "model.tflite")
    assert artifact.manifest.quantization.strategy == "dynamic_range"
    assert artifact.manifest.check is not None
    assert artifact.manifest.check["greedy"]["correlation"] > 0.9
    assert len(greedy(artifact)) == NEW_TOKENS


def test_short_caches_are_as_narrow(tmp_path: Path) -> None:
    converter = lt.Converter(
        gemma_models.gemma4(), quantizer="none", context_length=258, prefill_lengths=(8,)
    )
    artifact = converter.convert(tmp_path / "model.tflite")
    assert artifact.manifest.model.short_caches == (256,)
    with lt.Interpreter(artifact.path) as interpreter:
        inputs = interpreter.signatures["cache_256_decode"].inputs
    assert inputs["kv_cache_k_0"].shape == (1, 2, 256, 8)
    assert inputs["kv_cache_v_5"].shape == (1, 2, 16, 256)


# --- the reference ------------------------------------------------------------------------------


def test_the_reference_of_gemma3n_follows_its_weights() -> None:
    """Its functional model multiplies with the embedding of the day it was made."""
    model = gemma_models.gemma3n()
    tokens = np.array([PROMPT], np.int32)
    inputs = {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}
    hidden = model.backbone(inputs, training=False)
    expected = np.asarray(model.backbone.language_model.token_embedding(hidden, reverse=True))[0]
    np.testing.assert_allclose(keras_logits(model, PROMPT), expected, rtol=1e-4, atol=1e-4)
    assert np.abs(np.asarray(model(inputs, training=False))[0] - expected).max() > 1
    with pytest.raises(UnsupportedModelError, match="holds a copy of one of shape"):
        lt.Converter(model, layout="forward")


def test_positions_are_given_to_a_forward_pass_that_asks_for_them() -> None:
    model = gemma_models.gemma4()
    tokens = np.array([PROMPT], np.int32)
    inputs = {
        "token_ids": tokens,
        "padding_mask": np.ones_like(tokens),
        "position_ids": np.arange(len(PROMPT), dtype=np.int32)[None],
    }
    assert set(model.input) == set(inputs)
    expected = np.asarray(model(inputs, training=False))[0]
    np.testing.assert_array_equal(keras_logits(model, PROMPT), expected)


def test_as_many_heads_as_slots_are_told_apart() -> None:
    for build, axes in ((gemma_models.gemma4, "bshd"), (gemma_models.gemma3n, "bhsd")):
        for place in probe_cache(build(), 2).places:
            assert (place.axes, place.slots) == (axes, 2)


def test_a_model_that_reads_a_cache_that_it_never_writes_is_refused(tmp_path: Path) -> None:
    import keras_hub

    class Forgetful(keras_hub.models.GPTNeoXCausalLM):
        def call_with_cache(self, token_ids: Any, cache: Any, cache_update_index: Any) -> Any:
            logits, hidden, _ = super().call_with_cache(token_ids, cache, cache_update_index)
            return logits, hidden, cache

    class Confused(keras_hub.models.GPTNeoXCausalLM):
        def call_with_cache(self, token_ids: Any, cache: Any, cache_update_index: Any) -> Any:
            raise ValueError("where am I?")

    backbone = gemma_models.gpt_neo_x().backbone
    for kind, reason in ((Forgetful, "it reads kv_cache_k_0"), (Confused, r"where am I\?")):
        with pytest.raises(UnsupportedModelError, match=reason):
            lt.Converter(kind(backbone), context_length=8).convert(tmp_path / "model.tflite")
    assert not list(tmp_path.iterdir())


# --- the official engine ------------------------------------------------------------------------


@pytest.mark.parametrize("build", [gemma_models.gemma3n, gemma_models.gemma4_e])
def test_the_official_engine_says_the_same(
    build: Callable[..., Any], gpt2: Any, tmp_path: Path
) -> None:
    pytest.importorskip("litert_lm", reason="the official runtime is not installed")
    from llm_tflite.tokenizer_assets import asset_from_keras

    model = build(vocabulary=50257)
    core = lt.Converter(
        model, quantizer="none", context_length=CONTEXT, prefill_lengths=(8,)
    ).convert(tmp_path / "core.litertlm")
    (tmp_path / "model.bin").write_bytes(core.read_model())
    asset = asset_from_keras(gpt2.preprocessor)
    assert asset is not None
    manifest = dataclasses.replace(
        core.manifest,
        tokenizer=TokenizerFacts(asset.kind, asset.tokenization),
        tokens=Tokens(None, (50256,)),
    )
    path = tmp_path / "model.litertlm"
    write_artifact(path, tmp_path / "model.bin", asset.data, manifest)
    prompt = "The river runs past the old mill, and"
    with lt.Interpreter(path) as interpreter:
        ours = interpreter.generate(prompt).text
    (official,) = official_texts(path, [prompt])
    assert len(official.split()) > 5
    assert same_text(ours, official)
