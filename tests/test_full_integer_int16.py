"""``full_integer_int16``: int16 by int8 to int16, exact in the runtime, near Keras in the file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from material import gpt2_vocabulary
from official_engine import official_texts, same_text
from one_product import run_product, write_product

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.activations import ActivationScale
from llm_tflite.demo import shapes
from llm_tflite.flatbuffer.model import operator_code, parse
from llm_tflite.quantization import QuantizedTensor, Weight
from llm_tflite.quantizers.full_integer_int16 import FullIntegerInt16

Op = schema.BuiltinOperator
Type = schema.TensorType
TEXTS = ["The river runs past the old mill.", "def area(r):\n    return 3.14 * r**2\n", "To be"] * 2
# Random weights have no taste; whether such a file is kept is not what these tests ask.
TOLERANT = FullIntegerInt16(least_agreement=0.2)
OPTIONS: dict[str, dict[str, Any]] = {
    "prefill_decode": {"context_length": 48, "prefill_lengths": (8, 16)},
    "generate": {"max_length": 48},
    "forward": {"max_length": 48},
}
# A power of two, so that what goes in can be told exactly.
STEP = 2.0**-10


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return shapes.tiny_gpt2(vocabulary=gpt2_vocabulary()[0].parent)


def convert(model: Any, path: Path, layout: str = "prefill_decode", **options: Any) -> lt.Artifact:
    options = {"quantizer": TOLERANT, **OPTIONS[layout], **options}
    return lt.Converter(model, layout=layout, calibration=TEXTS, **options).convert(path)


def operators(path: Path) -> Iterator[tuple[int, Any, list[Any]]]:
    """Each operation of a file with its code and the tensors that it reads and writes."""
    model = parse(path.read_bytes())
    for graph in model.subgraphs:
        for operator in graph.operators:
            indices = [*operator.inputs, *operator.outputs]
            tensors = [graph.tensors[i] for i in indices if i >= 0]
            yield operator_code(model, operator), operator, tensors


# --- one product in the runtime -----------------------------------------------------------------


def product(integers: Any, scales: Any, output: float) -> QuantizedTensor:
    return QuantizedTensor(
        np.asarray(integers, np.int8),
        bits=8,
        scales=np.asarray(scales, np.float32),
        activations="static",
        input=ActivationScale(STEP, 0, 16),
        output=ActivationScale(float(np.float32(output)), 0, 16),
    )


def exact(source: Any, tensor: QuantizedTensor) -> Any:
    """What comes out, by integers that never overflow; halves are rounded away from zero."""
    assert tensor.output is not None
    assert tensor.scales is not None
    step = np.float32(tensor.output.scale)
    sums = source.astype(np.int64) @ tensor.values.T.astype(np.int64)
    scaled = sums * (np.float64(np.float32(STEP)) * tensor.scales / np.float64(step))
    rounded = np.sign(scaled) * np.floor(np.abs(scaled) + 0.5)
    return np.clip(rounded, -(2**15), 2**15 - 1).astype(np.float32) * step


def needs_64_bits(path: Path) -> bool:
    (types,) = {
        operator.builtinOptions.quantizedBiasType
        for code, operator, _ in operators(path)
        if code == Op.FULLY_CONNECTED
    }
    return bool(types == Type.INT64)


@pytest.mark.parametrize("length", [1, 5])
@pytest.mark.parametrize("columns", [64, 288, 3072])
def test_rows_have_their_own_scales_bit_for_bit(length: int, columns: int, tmp_path: Path) -> None:
    random = np.random.default_rng(columns)
    weights = random.integers(-127, 128, (48, columns))
    scales = 0.01 * np.exp(random.normal(size=48))
    source = random.integers(-(2**15), 2**15, (length, columns))
    widest = np.abs((source @ weights.T) * scales).max() * STEP
    tensor = product(weights, scales, widest / 30_000)
    path = tmp_path / "product.tflite"
    write_product(path, tensor, length)
    found = run_product(path, (source * STEP).astype(np.float32))
    np.testing.assert_array_equal(found, exact(source, tensor))
    assert len(np.unique(found)) > 40
    assert needs_64_bits(path) == (columns == 3072)


def test_what_is_beyond_the_range_is_its_end(tmp_path: Path) -> None:
    tensor = product(np.eye(4) * 100, np.full(4, 0.01), STEP / 2)
    path = tmp_path / "product.tflite"
    write_product(path, tensor)
    far = 60_000 * 2**15 * STEP  # QUANTIZE computes in int32, see docs/measurements.md
    found = run_product(path, np.array([[far, -far, 20_000 * STEP, 1.5 * STEP]], np.float32))
    ends = (2**15 - 1) * STEP / 2, -(2**15) * STEP / 2
    assert found.tolist() == [[ends[0], ends[1], ends[0], 2 * STEP]]


def test_sums_that_32_bits_cannot_hold_are_right(tmp_path: Path) -> None:
    columns = 2048
    source = np.full((1, columns), 20_000)
    tensor = product(np.full((8, columns), 127), np.full(8, 0.01), 0.01 * STEP * 2.0**18)
    assert (source @ tensor.values.T.astype(np.int64)).min() > 2 * 2**31
    path = tmp_path / "product.tflite"
    write_product(path, tensor)
    found = run_product(path, (source * STEP).astype(np.float32))
    np.testing.assert_array_equal(found, exact(source, tensor))


def test_a_range_that_what_comes_out_may_leave_by_far_is_refused(tmp_path: Path) -> None:
    tensor = product(np.full((8, 64), 127), np.full(8, 0.01), 1e-12)
    with pytest.raises(
        errors.ConversionError, match="65,536 times the range of its output; it may"
    ):
        write_product(tmp_path / "product.tflite", tensor)


# --- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", OPTIONS)
def test_every_product_is_one_of_int16_by_int8(layout: str, gpt2: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    artifact = convert(gpt2, path, layout)
    biases = 0
    for code, operator, tensors in operators(path):
        if code != Op.FULLY_CONNECTED:
            continue
        source, weight, *bias, output = tensors
        assert (source.type, weight.type, output.type) == (Type.INT16, Type.INT8, Type.INT16)
        assert list(source.quantization.zeroPoint) == list(output.quantization.zeroPoint) == [0]
        for tensor in bias:
            assert tensor.type == operator.builtinOptions.quantizedBiasType == Type.INT64
            expected = source.quantization.scale * weight.quantization.scale
            np.testing.assert_array_equal(tensor.quantization.scale, expected)
            biases += 1
    assert biases >= 6  # GPT-2 has them
    codes = parse(path.read_bytes()).operatorCodes
    versions = {code.builtinCode: code.version for code in codes}
    wanted = {Op.FULLY_CONNECTED: 11, Op.QUANTIZE: 2, Op.DEQUANTIZE: 3}
    assert {code: versions[code] for code in wanted} == wanted
    assert artifact.manifest.quantization.describe["activation_bits"] == 16
    figures = artifact.manifest.check["calibration"]
    assert figures["texts"] == len(TEXTS)
    assert 0.8 <= figures["share"] == figures["equal_tokens"] / figures["tokens"]


def test_a_bias_too_large_for_its_scales_is_refused(gpt2: Any, tmp_path: Path) -> None:
    (bias,) = (v for v in gpt2.variables if v.path.endswith("layer_0/self_attention/query/bias"))
    saved = bias.numpy().copy()

    class TooFine(FullIntegerInt16):
        def quantize(self, weight: Weight, values: Any) -> QuantizedTensor:
            tensor = super().quantize(weight, values)
            if tensor.input is None:
                return tensor
            return replace(tensor, input=replace(tensor.input, scale=1e-30))

    try:
        bias.assign(saved + 1)
        with pytest.raises(errors.ConversionError, match=r"bias .* to fit in int64"):
            convert(gpt2, tmp_path / "m.tflite", "forward", quantizer=TooFine())
    finally:
        bias.assign(saved)
    assert not list(tmp_path.iterdir())


def test_ranges_that_make_nonsense_are_refused(gpt2: Any, tmp_path: Path) -> None:
    narrow = replace(TOLERANT, headroom=0.01)
    with pytest.raises(errors.DisagreementError, match="No file was written"):
        convert(gpt2, tmp_path / "m.tflite", "forward", quantizer=narrow)
    assert not list(tmp_path.iterdir())


def test_it_needs_texts_and_bytes(gpt2: Any) -> None:
    with pytest.raises(errors.InvalidOptionError, match=r"'full_integer_int16' .* calibration=\["):
        lt.Converter(gpt2, quantizer="full_integer_int16")
    with pytest.raises(errors.InvalidOptionError, match="text='string'"):
        lt.Converter(
            gpt2, layout="generate", text="string", quantizer="full_integer_int16",
            calibration=TEXTS,
        )  # fmt: skip


def test_a_matrix_that_no_text_reaches_is_named() -> None:
    weight = Weight("head", "projection", (3, 4))
    with pytest.raises(errors.QuantizationError, match="'head' was multiplied with nothing"):
        FullIntegerInt16().quantize(weight, np.ones((3, 4), np.float32))


@pytest.mark.parametrize("magnitude", [0, 1e-44, 1e-3, 7, 3e38])
def test_every_magnitude_has_a_scale(magnitude: float) -> None:
    scale = ActivationScale.symmetric(magnitude)
    assert scale.problem() is None
    assert magnitude * (1 - 1e-7) <= scale.scale * (2**15 - 1)
    assert np.finfo(np.float32).tiny <= scale.scale


@pytest.mark.parametrize("headroom", [0.0, -1.0, float("nan"), float("inf")])
def test_a_headroom_that_leaves_no_range_is_refused(headroom: float) -> None:
    with pytest.raises(errors.InvalidOptionError, match="headroom"):
        FullIntegerInt16(headroom=headroom)


def test_the_official_engine_writes_the_same(gpt2: Any, tmp_path: Path) -> None:
    path = tmp_path / "m.litertlm"
    convert(gpt2, path)
    prompts, tokens = ["The river runs past", "Once upon a time"], 24
    with lt.Interpreter(path) as interpreter:
        ours = [interpreter.generate(p, max_new_tokens=tokens).text for p in prompts]
    official = official_texts(path, prompts, tokens)
    assert all(map(same_text, ours, official)), (ours, official)
    assert all(len(text.split()) > 5 for text in official)


@pytest.mark.slow
def test_a_trained_model_is_as_good_as_in_float32(tmp_path: Path) -> None:
    """stories15M, calibrated on 32 of its own stories and judged on 40 others."""
    from llm_tflite.demo.llama2c import load_llama2c
    from llm_tflite.demo.material import STORIES15M, fetch

    model = load_llama2c(fetch(STORIES15M))
    lt.Converter(model, quantizer="none").convert(tmp_path / "float.tflite")
    with lt.Interpreter(tmp_path / "float.tflite") as interpreter:
        stories = [
            [
                1,
                *interpreter.generate(
                    [1], max_new_tokens=63, sampling=lt.Sampling(temperature=1.0, seed=seed)
                ).token_ids,
            ]
            for seed in range(72)
        ]
        expected = sum(interpreter.score(story).total_logprob for story in stories[:40])
    path = tmp_path / "stories.tflite"
    artifact = lt.Converter(
        model, quantizer="full_integer_int16", calibration=stories[40:]
    ).convert(path)
    assert artifact.manifest.check["calibration"]["share"] >= 0.95
    assert not any(weight.note for weight in artifact.manifest.quantization.weights)
    with lt.Interpreter(path) as interpreter:
        found = sum(interpreter.score(story).total_logprob for story in stories[:40])
    tokens = sum(len(story) - 1 for story in stories[:40])
    assert abs(np.expm1((expected - found) / tokens)) <= 0.03
