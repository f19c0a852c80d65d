"""``full_integer``: int8 between int8, with ranges that calibration found, or no file at all."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from material import gpt2_vocabulary

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.activations import ActivationScale, Distribution
from llm_tflite.conversion.calibration import collect_statistics
from llm_tflite.demo import shapes
from llm_tflite.flatbuffer.model import operator_code, parse
from llm_tflite.quantization import QuantizedTensor, Weight
from llm_tflite.quantizers.full_integer import FullInteger, least_error

Op = schema.BuiltinOperator
TEXTS = ["The river runs past the old mill.", "def area(r):\n    return 3.14 * r**2\n", "To be"] * 2
# Random weights have no taste; whether such a file is kept is not what these tests ask.
TOLERANT = FullInteger(least_agreement=0.2)
EVERY_PRODUCT = FullInteger(least_agreement=0.2, coarsest_step=None)


def random_tokens(seed: int = 0) -> list[list[int]]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 160, 24).tolist() for _ in range(6)]


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return shapes.tiny_gpt2(vocabulary=gpt2_vocabulary()[0].parent)


@pytest.fixture(scope="module")
def llama() -> Any:
    return shapes.tiny_llama()


def convert(model: Any, path: Path, **options: Any) -> lt.Artifact:
    defaults: dict[str, Any] = {"max_length": 48}
    if options.get("layout", "prefill_decode") == "prefill_decode":
        defaults = {"context_length": 48, "prefill_lengths": (8, 16)}
    options = {"quantizer": EVERY_PRODUCT, **defaults, **options}
    return lt.Converter(model, **options).convert(path)


def products(path: Path) -> Iterator[list[Any]]:
    """The tensors that each FULLY_CONNECTED of a file reads and writes."""
    model = parse(path.read_bytes())
    for graph in model.subgraphs:
        for operator in graph.operators:
            if operator_code(model, operator) == Op.FULLY_CONNECTED:
                indices = [*operator.inputs, *operator.outputs]
                yield [graph.tensors[i] for i in indices if i >= 0]


@pytest.mark.parametrize("layout", ["prefill_decode", "generate", "forward"])
def test_every_product_is_one_of_integers(layout: str, gpt2: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    artifact = convert(gpt2, path, layout=layout, calibration=TEXTS)
    found = list(products(path))
    assert found
    for source, weight, *bias, output in found:
        assert (source.type, weight.type, output.type) == (schema.TensorType.INT8,) * 3
        for tensor in bias:
            assert tensor.type == schema.TensorType.INT32
            expected = source.quantization.scale * weight.quantization.scale
            np.testing.assert_array_equal(tensor.quantization.scale, expected)
    assert sum(len(tensors) == 4 for tensors in found) >= 3 * 6  # GPT-2 has biases
    figures = artifact.manifest.check["calibration"]
    assert figures["texts"] == len(TEXTS)
    assert 0.2 <= figures["share"] == figures["equal_tokens"] / figures["tokens"]


def test_products_of_one_activation_share_its_integers(llama: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    convert(llama, path, calibration=random_tokens(), prefill_lengths=(8,))
    model = parse(path.read_bytes())
    for graph in model.subgraphs:
        sources = [
            int(operator.inputs[0])
            for operator in graph.operators
            if operator_code(model, operator) == Op.QUANTIZE
        ]
        assert len(sources) == len(set(sources)) > 0


def test_statistics_span_what_the_products_saw(llama: Any) -> None:
    tokens = random_tokens()
    statistics = collect_statistics(llama, tokens, lambda _: None)
    embeddings = np.asarray(llama.backbone.token_embedding.embeddings)
    first = llama.backbone.transformer_layers[0]
    rows = embeddings[np.concatenate(tokens)]
    normal = rows / np.sqrt((rows**2).mean(-1, keepdims=True) + 1e-6)
    normal *= np.asarray(first._self_attention_layernorm.scale)
    kernel = np.asarray(first._self_attention_layer._query_dense.kernel)
    seen = statistics["transformer_layer_0/self_attention/query/kernel"]
    for found, values in ((seen.input, normal), (seen.output, np.tensordot(normal, kernel, 1))):
        assert found.minimum == pytest.approx(values.min(), rel=1e-4)
        assert found.maximum == pytest.approx(values.max(), rel=1e-4)
        assert found.counts.sum() == values.size
    # Three layers of seven matrices, and the head; the embedding is looked up only.
    assert len(statistics) == 22


def test_a_bias_belongs_to_what_comes_out(gpt2: Any) -> None:
    name = "transformer_layer_0/feedforward_intermediate_dense/"
    (bias,) = (v for v in gpt2.variables if v.path.endswith(name + "bias"))
    saved = bias.numpy().copy()
    try:
        bias.assign(saved + 100)
        statistics = collect_statistics(gpt2, [[1, 2, 3]], lambda _: None)
    finally:
        bias.assign(saved)
    (seen,) = (s for path, s in statistics.items() if path.endswith(name + "kernel"))
    assert seen.output.minimum > 50
    assert seen.input.maximum < 50


@pytest.mark.parametrize("layout", ["prefill_decode", "generate", "forward"])
def test_the_same_texts_give_the_same_bytes(layout: str, gpt2: Any, tmp_path: Path) -> None:
    paths = [tmp_path / "a.tflite", tmp_path / "b.tflite"]
    for path in paths:
        convert(gpt2, path, layout=layout, quantizer=TOLERANT, calibration=TEXTS)
    assert paths[0].read_bytes() == paths[1].read_bytes()


@dataclass(frozen=True)
class Narrow:
    """A strategy whose ranges hold a hundredth of what calibration saw."""

    name: str = "narrow"
    lossless: bool = False
    needs_calibration: bool = True

    def describe(self) -> dict[str, Any]:
        return {}

    def quantize(self, weight: Weight, values: Any) -> QuantizedTensor:
        tensor = EVERY_PRODUCT.quantize(weight, values)
        if tensor.input is None:
            return tensor
        return replace(tensor, input=replace(tensor.input, scale=tensor.input.scale / 100))


@pytest.mark.parametrize("layout", ["prefill_decode", "generate", "forward"])
def test_ranges_that_make_nonsense_are_refused(layout: str, gpt2: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.DisagreementError, match="No file was written"):
        convert(gpt2, tmp_path / "m.tflite", layout=layout, quantizer=Narrow(), calibration=TEXTS)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["prefill_decode", "generate", "forward"])
def test_too_little_agreement_is_refused_with_the_figure(
    layout: str, gpt2: Any, tmp_path: Path
) -> None:
    strict = replace(EVERY_PRODUCT, least_agreement=1.0)
    with pytest.raises(
        errors.DisagreementError, match=r"found 0\.\d+ .*use the quantizer 'dynamic"
    ):
        convert(gpt2, tmp_path / "m.tflite", layout=layout, quantizer=strict, calibration=TEXTS)
    assert not list(tmp_path.iterdir())


def test_a_strategy_that_measures_needs_texts(gpt2: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match=r"pass calibration=\["):
        lt.Converter(gpt2, quantizer="full_integer")


def test_texts_for_a_strategy_that_ignores_them_are_refused(gpt2: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match="'dynamic_range' measures no activations"):
        lt.Converter(gpt2, calibration=TEXTS)


def test_strings_are_refused(gpt2: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match="text='string'"):
        lt.Converter(
            gpt2, layout="generate", text="string", quantizer="full_integer", calibration=TEXTS
        )


@pytest.mark.parametrize(
    ("texts", "complaint"),
    [
        ("one text", "must be a list of some texts"),
        ([], "must be a list of some texts"),
        (3, "must be a list of some texts"),
        ([""], r"calibration\[0\] must have at least 2 tokens; got"),
        (["To be", 7], r"calibration\[1\] must be a text or a list of token ids; got 7"),
        ([[1.5, 2.5]], r"calibration\[0\] must be a text or a list"),
        ([[]], r"calibration\[0\] must be a text or a list"),
        ([[1, 50257]], "from 0 to 50256; they go from 1 to 50257"),
        ([[-1, 1]], "from 0 to 50256; they go from -1 to 1"),
    ],
)
def test_texts_that_say_nothing_are_refused(texts: Any, complaint: str, gpt2: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match=complaint):
        lt.Converter(gpt2, quantizer="full_integer", calibration=texts)


def test_a_model_without_tokenizer_is_calibrated_on_token_ids(llama: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match="pass lists of token ids"):
        lt.Converter(llama, quantizer="full_integer", calibration=["text"])


def test_a_text_longer_than_the_context_is_read_to_its_end(llama: Any, tmp_path: Path) -> None:
    long = [random_tokens()[0] * 10]
    artifact = convert(llama, tmp_path / "m.tflite", calibration=long, quantizer=TOLERANT)
    assert artifact.manifest.check["calibration"]["tokens"] == 25  # half, and what follows the last


def test_a_matrix_that_no_text_reaches_is_named() -> None:
    weight = Weight("head", "projection", (3, 4))
    with pytest.raises(errors.QuantizationError, match="'head' was multiplied with nothing"):
        FullInteger().quantize(weight, np.ones((3, 4), np.float32))


def test_rows_of_nothing_share_the_scale_of_others() -> None:
    weight = Weight("embedding", "embedding", (3, 2))
    values = np.array([[1, -1], [0, 0], [1e-30, 0]], np.float32)
    tensor = FullInteger().quantize(weight, values)
    tensor.validate(weight)
    assert tensor.scales is not None
    assert tensor.scales[1] == tensor.scales[2] == np.float32(2.0**-12 / 127)
    zeros = FullInteger().quantize(weight, np.zeros((3, 2), np.float32))
    assert not zeros.dequantize().any()
    zeros.validate(weight)


def test_distributions_add_up_whatever_their_width() -> None:
    random = np.random.default_rng(0)
    parts = [(random.normal(size=999) * 10.0**e).astype(np.float32) for e in (-9, -1, 0, 3)]
    total = sum((Distribution.of(p) for p in parts[1:]), Distribution.of(parts[0]))
    whole = Distribution.of(np.concatenate(parts))
    assert (total.minimum, total.maximum, total.limit) == (
        whole.minimum,
        whole.maximum,
        whole.limit,
    )
    assert total.counts.sum() == 4 * 999
    assert np.abs(total.counts - whole.counts).sum() <= 2  # values on an edge


def test_one_outlier_of_many_is_clipped_and_a_plain_range_is_not() -> None:
    values = np.random.default_rng(0).normal(size=100_000).astype(np.float32)
    plain = least_error(Distribution.of(values)).scale * 255
    values[0] = 30
    clipped = least_error(Distribution.of(values)).scale * 255
    assert np.ptp(values[1:]) * 0.6 < plain <= np.ptp(values[1:]) * 1.01
    assert clipped < np.ptp(values) - 3


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0.5, 2), (-4, -2), (0, 0), (-1e-3, 1e3)])
def test_zero_is_always_an_integer(low: float, high: float) -> None:
    scale = ActivationScale.spanning(low, high)
    assert scale.problem() is None
    ends = (np.array([-128, 127]) - scale.zero_point) * scale.scale
    assert ends[0] <= min(low, 0) + scale.scale
    assert ends[1] >= max(high, 0) - scale.scale


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["prefill_decode", "generate"])
def test_a_trained_model_agrees_or_is_refused(layout: str, tmp_path: Path) -> None:
    """stories15M, calibrated on 16 of its own stories and judged on others."""
    import keras_hub

    from llm_tflite.demo.llama2c import load_llama2c
    from llm_tflite.demo.material import STORIES15M, fetch
    from llm_tflite.tracing.reference import keras_logits

    model = load_llama2c(fetch(STORIES15M))
    model.compile(sampler=keras_hub.samplers.TopKSampler(k=20, temperature=0.9, seed=11))
    starts = ("Once upon a time", "One day, a", "Tom and", "In the forest")
    stories = [model.generate(start, max_length=200) for start in starts * 4]
    options: dict[str, Any] = (
        {"max_length": 128} if layout == "generate" else {"context_length": 256}
    )
    path = tmp_path / "stories.tflite"
    artifact = convert(
        model, path, layout=layout, quantizer="full_integer", calibration=stories, **options
    )
    assert artifact.manifest.check["calibration"]["share"] >= 0.9
    kept = [w.name for w in artifact.manifest.quantization.weights if w.note]
    assert 0 < len(kept) <= 6
    assert all("feedforward_output_dense" in name for name in kept)
    equal = []
    with lt.Interpreter(path) as interpreter:
        for start in ("The little dog", "Lily wanted", "A big red ball", "Once there was a cat"):
            run = interpreter.generate(start, max_new_tokens=100)
            tokens = [1, *interpreter_tokens(model, run.text)]
            best = keras_logits(model, tokens).argmax(-1)[:-1]
            begin = len(interpreter_tokens(model, start))
            equal += (best[begin:] == tokens[begin + 1 :]).tolist()
    # 0.82 on one machine, 0.85 and more of a single text on others: processors sample other stories
    # to calibrate on. A single text comes to 0.78 or to 0.95, as it happens.
    assert len(equal) > 200
    assert np.mean(equal) >= 0.75

    whole = replace(FullInteger(), coarsest_step=None)
    with pytest.raises(errors.DisagreementError, match=r"found 0\.[78]\d+"):
        convert(
            model, tmp_path / "w.tflite", layout=layout, quantizer=whole, calibration=stories,
            **options,
        )  # fmt: skip


def interpreter_tokens(model: Any, text: str) -> list[int]:
    return [int(token) for token in np.asarray(model.preprocessor.tokenizer(text))]
