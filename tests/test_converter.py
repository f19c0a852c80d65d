"""What conversion promises, what it refuses, and what it leaves behind: nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.demo import shapes
from llm_tflite.quantization import QuantizedTensor, Weight

STRATEGIES = ["none", "float16", "dynamic_range", "weight_only_int8", "int4"]


@pytest.fixture(scope="module")
def gpt2_ids() -> Any:
    """A GPT-2 without a preprocessor: token ids in, token ids out."""
    return shapes.tiny_gpt2()


@pytest.fixture(scope="module")
def llama() -> Any:
    return shapes.tiny_llama()


def convert(model: Any, path: Path, **options: Any) -> lt.Artifact:
    options = {"context_length": 64, "prefill_lengths": (8,)} | options
    return lt.Converter(model, **options).convert(path)


# --- what comes out ---------------------------------------------------------------------------


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_converts_and_says_what_it_did(
    strategy: str, llama: Any, tmp_path: Path
) -> None:
    artifact = convert(llama, tmp_path / "m.litertlm", quantizer=strategy)
    artifact.verify()
    quantization = artifact.manifest.quantization
    assert quantization.strategy == strategy
    # Embedding, head, and seven matrices in each of three layers.
    assert len(quantization.weights) == 2 + 3 * 7
    bits = {"none": 32, "float16": 16, "int4": 4}.get(strategy, 8)
    for weight in quantization.weights:
        assert weight.bits == bits or (strategy == "int4" and weight.role == "embedding")
    assert artifact.manifest.check is not None
    greedy = artifact.manifest.check["greedy"]
    if strategy == "none":
        assert greedy["equal_tokens"] == greedy["tokens"]
        assert greedy["max_logit_difference"] < 1e-3


def test_the_same_model_gives_the_same_bytes(gpt2_ids: Any, tmp_path: Path) -> None:
    for name in ("a.litertlm", "b.litertlm", "a.tflite"):
        convert(gpt2_ids, tmp_path / name)
    assert (tmp_path / "a.litertlm").read_bytes() == (tmp_path / "b.litertlm").read_bytes()
    lt.Artifact.open(tmp_path / "a.litertlm").save_as(tmp_path / "b.tflite")
    assert (tmp_path / "a.tflite").read_bytes() == (tmp_path / "b.tflite").read_bytes()


@pytest.mark.parametrize("model", ["gpt2_ids", "llama"])
def test_caches_are_written_in_place_and_read_by_products_alone(
    model: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    from ai_edge_litert import schema_py_generated as schema

    from llm_tflite.flatbuffer.model import operator_name, parse

    path = tmp_path / "m.tflite"
    convert(request.getfixturevalue(model), path, context_length=1024 if model == "llama" else 256)
    flatbuffer = parse(path.read_bytes())
    names = [signature.signatureKey.decode() for signature in flatbuffer.signatureDefs]
    expected = {"decode", "prefill_8"}
    if model == "llama":
        expected |= {f"cache_{n}_{e}" for n in (256, 512) for e in ("decode", "prefill_8")}
    assert set(names) == expected
    for name, signature in zip(names, flatbuffer.signatureDefs, strict=True):
        graph = flatbuffer.subgraphs[signature.subgraphIndex]
        caches = {e.tensorIndex for e in signature.inputs if e.name.startswith(b"kv_cache")}
        written = set()
        for operator in graph.operators:
            operation = operator_name(flatbuffer, operator)
            if operation == "DYNAMIC_UPDATE_SLICE":
                assert operator.inputs[0] in caches
                written.add(int(operator.outputs[0]))
                continue
            assert not caches & set(operator.inputs), f"{name}: {operation} reads an old cache"
            if written & set(operator.inputs):
                # A single row per head is multiplied without a packed copy of the cache.
                single = model == "gpt2_ids" and name.endswith("decode")
                assert operation == ("MUL" if single else "BATCH_MATMUL")
        assert len(written) == len(caches)
        results = {e.tensorIndex for e in signature.outputs if e.name.startswith(b"kv_cache")}
        assert results == written
        if name == "decode":
            kinds = {operator_name(flatbuffer, operator) for operator in graph.operators}
            assert not kinds & {"TRANSPOSE", "TILE"}
            assert schema.BuiltinOperator.CUSTOM not in {
                code.builtinCode for code in flatbuffer.operatorCodes
            }


def test_a_tied_embedding_is_stored_once_for_all_signatures(gpt2_ids: Any, tmp_path: Path) -> None:
    from llm_tflite.flatbuffer.model import parse

    path = tmp_path / "m.tflite"
    convert(gpt2_ids, path)
    flatbuffer = parse(path.read_bytes())
    users: dict[int, int] = {}
    for graph in flatbuffer.subgraphs:
        for tensor in graph.tensors:
            if tensor.buffer and flatbuffer.buffers[tensor.buffer].offset > 1:
                users[tensor.buffer] = users.get(tensor.buffer, 0) + 1
    assert set(users.values()) == {len(flatbuffer.subgraphs)} | (
        {1} if any(count == 1 for count in users.values()) else set()
    )
    spans = [flatbuffer.buffers[i] for i in users]
    assert len({(b.offset, b.size) for b in spans}) == len(spans)


def test_a_model_without_preprocessor_takes_and_gives_tokens(gpt2_ids: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.litertlm"
    convert(gpt2_ids, path, quantizer="none")
    with lt.Interpreter(path) as interpreter:
        completion = interpreter.generate([5, 17, 33], max_new_tokens=4)
        assert len(completion.token_ids) == 4
        with pytest.raises(errors.PromptError, match="token ids"):
            interpreter.generate("text")


def test_progress_reaches_the_end_of_every_stage(gpt2_ids: Any, tmp_path: Path) -> None:
    steps: list[lt.Progress] = []
    lt.Converter(gpt2_ids, context_length=64, prefill_lengths=(8,)).convert(
        tmp_path / "m.litertlm", progress=steps.append
    )
    stages = list(dict.fromkeys(step.stage for step in steps))
    assert stages == [
        "converting the graphs",
        "quantizing weights",
        "checking",
        "writing",
    ]
    assert steps[-1] == lt.Progress("writing", 1, 1)


# --- what is refused --------------------------------------------------------------------------


def test_what_is_no_causal_language_model_is_refused_in_one_sentence() -> None:
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(errors.UnsupportedModelError, match="Sequential has no 'call_with_cache'"):
        lt.Converter(model)


def test_another_backend_is_refused(gpt2_ids: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(errors.UnsupportedModelError, match="KERAS_BACKEND=tensorflow"):
        lt.Converter(gpt2_ids)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"context_length": 512}, "256 positions"),
        ({"context_length": 0}, "from 1"),
        ({"context_length": 64.0}, "whole number"),
        ({"context_length": True}, "whole number"),
        ({"context_length": 127}, "prime"),
        ({"context_length": 64, "prefill_lengths": ()}, "at least one"),
        ({"context_length": 64, "prefill_lengths": (8, 128)}, "above the context"),
        ({"context_length": 64, "prefill_lengths": (0,)}, "from 1"),
        ({"layout": "backward"}, "prefill_decode"),
        ({"quantizer": 8}, "quantization strategy"),
    ],
)
def test_an_option_that_no_file_could_honour_is_refused(
    options: dict[str, Any], message: str, gpt2_ids: Any
) -> None:
    with pytest.raises(errors.InvalidOptionError, match=message):
        lt.Converter(gpt2_ids, **options)


def test_an_unknown_quantizer_is_refused_with_the_names_that_exist(gpt2_ids: Any) -> None:
    with pytest.raises(errors.UnknownPluginNameError, match="did you mean 'int4'"):
        lt.Converter(gpt2_ids, quantizer="int_4")


def test_a_target_is_refused_before_any_work(gpt2_ids: Any, tmp_path: Path) -> None:
    converter = lt.Converter(gpt2_ids, context_length=64)
    taken = tmp_path / "taken.litertlm"
    taken.write_bytes(b"precious")
    with pytest.raises(errors.ArtifactExistsError, match="overwrite=True"):
        converter.convert(taken)
    with pytest.raises(errors.InvalidOptionError, match=re.escape(".litertlm or .tflite")):
        converter.convert(tmp_path / "model.bin")
    with pytest.raises(errors.StorageError, match="does not exist"):
        converter.convert(tmp_path / "nowhere" / "model.litertlm")
    assert taken.read_bytes() == b"precious"
    assert list(tmp_path.iterdir()) == [taken]


# --- what is left behind ----------------------------------------------------------------------


def test_weights_that_are_not_finite_are_refused_by_name(tmp_path: Path) -> None:
    model = shapes.tiny_llama()
    kernel = next(v for v in model.variables if "query" in v.path)
    values = kernel.numpy().copy()
    values.flat[0] = np.nan
    kernel.assign(values)
    with pytest.raises(errors.QuantizationError, match=re.escape(kernel.path)):
        convert(model, tmp_path / "m.litertlm", quantizer="none")
    assert list(tmp_path.iterdir()) == []


class _Damaging:
    """A strategy whose integers have nothing to do with the weights."""

    name = "damaging"
    lossless = False

    def describe(self) -> dict[str, Any]:
        return {}

    def quantize(self, weight: Weight, values: np.ndarray) -> QuantizedTensor:
        noise = np.random.default_rng(0).integers(-127, 128, values.shape).astype(np.int8)
        scales = (np.abs(values).max(axis=1) / 127 + 1e-9).astype(np.float32)
        return QuantizedTensor(noise, bits=8, scales=scales, activations="dynamic")


def test_a_file_that_disagrees_with_keras_is_never_written(llama: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.DisagreementError, match=r"expected greedy tokens .* found"):
        convert(llama, tmp_path / "m.litertlm", quantizer=_Damaging())
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_leaves_nothing_and_the_old_file(gpt2_ids: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.litertlm"
    path.write_bytes(b"old")

    def interrupt(step: lt.Progress) -> None:
        if step.stage == "quantizing weights" and step.done > 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lt.Converter(gpt2_ids, context_length=64).convert(path, overwrite=True, progress=interrupt)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX")
def test_a_disk_that_refuses_is_an_error_of_ours_and_leaves_nothing(tmp_path: Path) -> None:
    code = """
        import resource, signal, sys
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        import llm_tflite as lt
        from llm_tflite.demo import shapes
        converter = lt.Converter(shapes.tiny_gpt2(), context_length=64, prefill_lengths=(8,))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            converter.convert(sys.argv[1])
        except lt.LLMTFLiteError as error:
            print(type(error).__name__, error)
    """
    path = tmp_path / "m.litertlm"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.startswith("StorageError")
    assert list(tmp_path.iterdir()) == []


def test_a_model_whose_cache_is_unknown_is_refused(tmp_path: Path) -> None:
    import keras_hub
    import tensorflow as tf

    class Recurrent(keras_hub.models.GPT2CausalLM):  # type: ignore[misc]
        def generate_step(self, inputs: Any, stop_token_ids: Any = None) -> Any:
            return self.call_with_cache(inputs["token_ids"], tf.zeros([1, 3, 7]), 0)

    model = Recurrent(shapes.tiny_gpt2().backbone, preprocessor=None)
    with pytest.raises(errors.UnsupportedModelError, match="keys and values of shape"):
        convert(model, tmp_path / "m.litertlm")
    assert list(tmp_path.iterdir()) == []
