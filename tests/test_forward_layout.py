"""The ``forward`` layout: one signature, Keras' own forward pass over a whole text."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONTEXT, tiny_gpt2

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.conversion.forward import ForwardPlan
from llm_tflite.demo import shapes
from llm_tflite.tracing.forward import trace_forward

TEXT = "The capital of France is Paris.\nПривет, 你好 😀"


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2(seed=3)


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(model, tmp_path_factory.mktemp("forward") / "scorer.tflite")


def convert(model: Any, path: Path, **options: Any) -> Path:
    options = {"quantizer": "none", "max_length": CONTEXT} | options
    lt.Converter(model, layout="forward", **options).convert(path)
    return path


def inputs(model: Any) -> dict[str, np.ndarray]:
    """Random tokens, with padding behind them and a gap among them."""
    vocabulary = model.backbone.vocabulary_size
    ids = np.random.default_rng(0).integers(0, vocabulary, (1, CONTEXT)).astype(np.int32)
    mask = np.ones_like(ids)
    mask[0, 3:5] = mask[0, -7:] = 0
    return {"token_ids": ids, "padding_mask": mask}


def run(path: Path, arrays: dict[str, np.ndarray]) -> np.ndarray:
    with lt.Interpreter(path, threads=1) as interpreter:
        return interpreter.run("serving_default", **arrays)["logits"]


PLAIN_RUN = """
import sys
sys.modules["tensorflow"] = sys.modules["llm_tflite"] = None  # importing either is an error
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
outputs = runner(**np.load(sys.argv[2]))
assert list(outputs) == ["logits"]
np.save(sys.argv[3], outputs["logits"])
"""


@pytest.mark.parametrize("make", [tiny_gpt2, shapes.tiny_llama, shapes.tiny_llama3])
def test_keras_the_interpreter_and_the_plain_runtime_give_the_same_logits(
    make: Callable[[], Any], tmp_path: Path
) -> None:
    model = make()
    path = convert(model, tmp_path / "m.tflite")
    arrays = inputs(model)
    expected = np.asarray(model(arrays))
    found = run(path, arrays)
    assert (found.dtype, found.shape) == (np.float32, expected.shape)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))
    np.savez(tmp_path / "inputs.npz", **arrays)
    files = [path, tmp_path / "inputs.npz", tmp_path / "logits.npy"]
    subprocess.run([sys.executable, "-c", PLAIN_RUN, *files], check=True, timeout=300)
    plain = np.load(files[-1])
    np.testing.assert_allclose(plain, expected, atol=1e-4 * np.ptp(expected))


def test_a_text_behind_padding_keeps_its_positions(model: Any, path: Path) -> None:
    arrays = inputs(model)
    arrays["padding_mask"][0, :9] = 0
    expected = np.asarray(model(arrays))
    np.testing.assert_allclose(run(path, arrays), expected, atol=1e-4 * np.ptp(expected))
    cut = {name: np.roll(array, -9) for name, array in arrays.items()}
    assert np.abs(run(path, cut)[0, :1] - expected[0, 9:10]).max() > 1e-3, "positions should count"


def test_the_signature_is_that_of_the_stock_converter(tmp_path: Path) -> None:
    """But for the name of its output, and with a text's length fixed."""
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    model = shapes.tiny_gpt2()
    model.export(str(tmp_path / "saved"), format="tf_saved_model", verbose=False)
    stock = Interpreter(
        model_content=tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    )
    assert stock.get_signature_list() == {
        "serving_default": {"inputs": ["padding_mask", "token_ids"], "outputs": ["output_0"]}
    }
    ours = Interpreter(model_path=str(convert(model, tmp_path / "m.tflite")))
    assert ours.get_signature_list() == {
        "serving_default": {"inputs": ["padding_mask", "token_ids"], "outputs": ["logits"]}
    }
    arrays = inputs(model)
    for detail in stock.get_input_details():
        assert detail["dtype"] == np.int32
        stock.resize_tensor_input(detail["index"], (1, CONTEXT))
    expected = stock.get_signature_runner()(**arrays)["output_0"]
    found = ours.get_signature_runner()(**arrays)["logits"]
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.ptp(expected))


def test_builtin_operations_and_each_weight_once(model: Any, path: Path) -> None:
    from llm_tflite.flatbuffer.model import parse

    flatbuffer = parse(path.read_bytes())
    assert all(code.customCode is None for code in flatbuffer.operatorCodes)
    (graph,) = flatbuffer.subgraphs
    stored = [i for i, buffer in enumerate(flatbuffer.buffers) if buffer.offset > 1]
    spans = {(flatbuffer.buffers[i].offset, flatbuffer.buffers[i].size) for i in stored}
    assert len(spans) == len(stored)
    # The tied embedding is one tensor, which the lookup and the head read.
    largest = max(stored, key=lambda i: flatbuffer.buffers[i].size)
    (table,) = (i for i, tensor in enumerate(graph.tensors) if tensor.buffer == largest)
    assert sum(table in operator.inputs for operator in graph.operators) == 2
    weights = lt.Artifact.open(path).manifest.quantization.weights
    kernels = [v for v in model.variables if v.path.endswith(("kernel", "embeddings"))]
    assert {w.name for w in weights} <= {v.path for v in kernels}
    assert sum(w.role != "table" for w in weights) == 1 + 2 * 6


@pytest.mark.parametrize(
    "quantizer", ["none", "float16", "dynamic_range", "weight_only_int8", "int4"]
)
def test_what_stands_in_the_padding_changes_nothing(
    model: Any, tmp_path: Path, quantizer: str
) -> None:
    path = convert(model, tmp_path / "m.tflite", quantizer=quantizer)
    check = lt.Artifact.open(path).manifest.check
    assert check is not None
    assert check["padding_behind"]["correlation"] > 0.8
    assert check["padding_among"]["tokens"] == 32
    arrays = inputs(model)
    real = arrays["padding_mask"] == 1
    other = {**arrays, "token_ids": np.where(real, arrays["token_ids"], 464).astype(np.int32)}
    expected, found = run(path, arrays)[real], run(path, other)[real]
    np.testing.assert_array_equal(found, expected)
    unmasked = run(path, {**other, "padding_mask": np.ones_like(other["padding_mask"])})[real]
    assert np.abs(unmasked - expected).max() > 1e-3, "a gap that is read should make a difference"


@pytest.mark.parametrize("quantizer", ["none", "dynamic_range"])
def test_scores_are_those_of_a_file_that_decodes(
    model: Any, tmp_path: Path, quantizer: str
) -> None:
    path = convert(model, tmp_path / "forward.tflite", quantizer=quantizer)
    decoding = tmp_path / "decoding.tflite"
    options = {"context_length": CONTEXT, "prefill_lengths": (16,)}
    lt.Converter(model, quantizer=quantizer, **options).convert(decoding)
    random = np.random.default_rng(0)
    full = [int(token) for token in random.integers(0, 50257, CONTEXT + 1)]
    with lt.Interpreter(path, threads=1) as ours, lt.Interpreter(decoding, threads=1) as theirs:
        for text in (TEXT, "A", full, [464, 2068]):
            expected, found = theirs.score(text), ours.score(text)
            assert [t.token_id for t in found.tokens] == [t.token_id for t in expected.tokens]
            np.testing.assert_allclose(
                [t.logprob for t in found.tokens],
                [t.logprob for t in expected.tokens],
                atol=1e-3,
            )
        with pytest.raises(errors.ContextOverflowError, match=f"at most {CONTEXT + 1} tokens"):
            ours.score([*full, 464])
        with pytest.raises(errors.PromptError, match="at least two"):
            ours.score([464])
        assert ours.tokenize(TEXT) == theirs.tokenize(TEXT)
        assert ours.detokenize(ours.tokenize(TEXT)) == TEXT


def test_a_manifest_that_promises_another_length_is_refused(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = ForwardPlan.facts
    monkeypatch.setattr(
        ForwardPlan,
        "facts",
        lambda *arguments: dataclasses.replace(facts(*arguments), context_length=CONTEXT // 2),
    )
    monkeypatch.setattr(ForwardPlan, "check", lambda *_, **__: {})
    path = convert(model, tmp_path / "m.tflite")
    with pytest.raises(errors.IncompatibleArtifactError, match="the manifest promises"):
        lt.Interpreter(path, threads=1)


def test_it_writes_no_text_and_says_who_does(path: Path) -> None:
    with lt.Interpreter(path, threads=1) as interpreter:
        for ask in (
            interpreter.generate,
            interpreter.stream,
            lambda prompt: interpreter.stream(prompt, sampling=lt.Sampling(temperature=0.5)),
        ):
            for prompt in (TEXT, [464], "word " * 2 * CONTEXT):
                with pytest.raises(errors.InvalidOptionError, match="'prefill_decode' or 'gen"):
                    ask(prompt)
    with pytest.raises(errors.ClosedError):
        interpreter.score(TEXT)


def test_a_call_that_keras_would_take_for_another_is_refused(model: Any, path: Path) -> None:
    good = inputs(model)
    with lt.Interpreter(path, threads=1) as interpreter:
        for changes, message in (
            ({"padding_mask": good["padding_mask"] * 2}, "must hold 1"),
            ({"padding_mask": good["padding_mask"] - 1}, "must hold 1"),
            ({"padding_mask": good["padding_mask"].astype(bool)}, "array of int32"),
            ({"token_ids": good["token_ids"][:, 1:]}, "shape"),
            ({"tokens": good["token_ids"]}, "among them: tokens"),
        ):
            with pytest.raises(errors.InvalidOptionError, match=message):
                interpreter.run("serving_default", **(good | changes))
        with pytest.raises(errors.InvalidOptionError, match="missing"):
            interpreter.run("serving_default", token_ids=good["token_ids"])
        with pytest.raises(errors.InvalidOptionError, match="one of the signatures"):
            interpreter.run("decode", **good)
        with pytest.raises(errors.PromptError, match="outside the vocabulary"):
            interpreter.run("serving_default", **(good | {"token_ids": good["token_ids"] + 50000}))


def test_a_model_without_preprocessor_scores_tokens(tmp_path: Path) -> None:
    model = shapes.tiny_llama()
    path = tmp_path / "m.tflite"
    artifact = lt.Converter(model, layout="forward", max_length=24).convert(path)
    assert artifact.manifest.tokenizer is None
    with lt.Interpreter(path, threads=1) as interpreter:
        assert len(interpreter.score([5, 17, 33]).tokens) == 2
        for ask in (interpreter.score, interpreter.tokenize):
            with pytest.raises(errors.PromptError, match="no tokenizer"):
                ask("text")
        with pytest.raises(errors.InvalidOptionError, match="'prefill_decode' or 'generate'"):
            interpreter.generate("text")


def test_scores_that_are_not_finite_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_gpt2()
    table = model.backbone.position_embedding.position_embeddings
    values = np.asarray(table.value).copy()
    values[50] = 3e38  # overflows in the first layer
    table.assign(values)
    with pytest.raises(errors.DisagreementError):
        convert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(ForwardPlan, "check", lambda *_, **__: {})
    path = convert(model, tmp_path / "m.tflite")
    with (
        lt.Interpreter(path, threads=1) as interpreter,
        pytest.raises(errors.RuntimeFailureError, match="not finite"),
    ):
        interpreter.score(TEXT)


def test_the_same_model_gives_the_same_bytes(model: Any, path: Path, tmp_path: Path) -> None:
    assert convert(model, tmp_path / "again.tflite").read_bytes() == path.read_bytes()
    artifact = lt.Artifact.open(path)
    artifact.verify()
    assert artifact.save_as(tmp_path / "copy.tflite").path is not None
    assert (tmp_path / "copy.tflite").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [1, 2, 37, CONTEXT])
def test_any_length_is_kept(model: Any, tmp_path: Path, length: int) -> None:
    path = convert(model, tmp_path / "m.tflite", max_length=length)
    ids = np.arange(464, 464 + length, dtype=np.int32)[None]
    arrays = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
    expected = np.asarray(model(arrays))
    np.testing.assert_allclose(run(path, arrays), expected, atol=1e-4 * np.ptp(expected))


def test_the_length_is_the_preprocessors_or_the_models(model: Any, tmp_path: Path) -> None:
    model.preprocessor.sequence_length, before = 40, model.preprocessor.sequence_length
    try:
        found = lt.Converter(model, layout="forward").convert(tmp_path / "a.tflite")
    finally:
        model.preprocessor.sequence_length = before
    assert found.manifest.model.context_length == 40
    found = lt.Converter(shapes.tiny_gpt2(), layout="forward").convert(tmp_path / "b.tflite")
    assert found.manifest.model.context_length == 256


def test_inspection_shows_what_it_takes_and_gives(path: Path) -> None:
    page = str(lt.inspect(path)).splitlines()
    assert "signature serving_default" in page
    assert f"  takes  token_ids: int32[1, {CONTEXT}]" in page
    assert f"  takes  padding_mask: int32[1, {CONTEXT}]" in page
    assert f"  gives  logits: float32[1, {CONTEXT}, 50257]" in page
    assert "  tokenizer   hf" in page


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 0}, "from 1"),
        ({"max_length": True}, "from 1"),
        ({"max_length": 8.0}, "from 1"),
        ({"max_length": CONTEXT + 1}, f"{CONTEXT} positions"),
        ({"context_length": CONTEXT}, "belongs to prefill_decode"),
        ({"text": "bytes"}, "belongs to generate"),
        ({"sampling": lt.Sampling.greedy()}, "belongs to generate"),
    ],
)
def test_options_that_no_file_could_honour(model: Any, options: Any, message: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match=message):
        lt.Converter(model, layout="forward", **options)


def test_it_stays_in_its_container(model: Any, path: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidOptionError, match=r"must end in \.tflite"):
        convert(model, tmp_path / "m.litertlm")
    with pytest.raises(errors.InvalidOptionError, match="LiteRT-LM runs the layout"):
        lt.Artifact.open(path).save_as(tmp_path / "m.litertlm")
    assert not list(tmp_path.iterdir())


def test_a_model_that_reads_more_than_text_is_refused() -> None:
    import keras_hub

    backbone = keras_hub.models.PaliGemmaBackbone(
        vocabulary_size=64,
        image_size=16,
        num_layers=1,
        num_query_heads=2,
        num_key_value_heads=1,
        hidden_dim=8,
        intermediate_dim=16,
        head_dim=4,
        vit_patch_size=4,
        vit_num_heads=2,
        vit_hidden_dim=8,
        vit_num_layers=1,
        vit_intermediate_dim=16,
    )
    model = keras_hub.models.PaliGemmaCausalLM(backbone=backbone, preprocessor=None)
    with pytest.raises(errors.UnsupportedModelError, match=r"found.*'images'"):
        lt.Converter(model, layout="forward", max_length=8)


def test_a_model_that_holds_a_large_tensor_is_refused() -> None:
    import keras

    ids, mask = (keras.Input((None,), dtype="int32", name=n) for n in ("token_ids", "padding_mask"))
    hidden = keras.layers.Embedding(16, 200)(ids) * keras.ops.ones((1, 1, 200))
    model = keras.Model({"token_ids": ids, "padding_mask": mask}, hidden)
    with pytest.raises(errors.UnsupportedModelError, match=r"holds tensors of shape \[1, 1, 200\]"):
        trace_forward(model, length=8)


class WithoutMask:
    """A model that takes padding for text."""

    def __init__(self, model: Any) -> None:
        self.variables, self.input = model.variables, model.input
        self._flatten_layers = model._flatten_layers
        self._model = model

    def __call__(self, inputs: Any, **options: Any) -> Any:
        import tensorflow as tf

        mask = tf.maximum(inputs["padding_mask"], 1)
        return self._model({**inputs, "padding_mask": mask}, **options)


def test_a_mask_without_effect_is_noticed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_tflite.layouts import forward

    original = forward.trace_forward
    monkeypatch.setattr(
        forward, "trace_forward", lambda model, length: original(WithoutMask(model), length)
    )
    with pytest.raises(errors.DisagreementError, match="disagrees with Keras' forward pass"):
        convert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())
