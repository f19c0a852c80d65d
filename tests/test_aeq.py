"""``aeq:RECIPE`` stores what ai-edge-quantizer stores, bit for bit, or says what it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_quantizer import Quantizer, qtyping, recipe
from one_product import run_product, write_lookup, write_product

import llm_tflite as lt
from llm_tflite.activations import ActivationStatistics, Distribution, Moments
from llm_tflite.errors import InvalidOptionError, QuantizationError
from llm_tflite.plugins import load_plugins, plugins
from llm_tflite.quantization import (
    QuantizedTensor,
    Weight,
    describe,
    needs_calibration,
    quantize,
    takes_calibration,
)
from llm_tflite.quantizers.aeq_recipes import Rule
from llm_tflite.testing import QuantizerConformance, check_quantizer, tiny_model

# What ai-edge-quantizer's calibration says of LiteRT's interpreter.
pytestmark = pytest.mark.filterwarnings("ignore:Warning. Enabling .experimental_preserve_all_tens")

Matrix = np.ndarray[Any, np.dtype[np.float32]]

DYNAMIC = [
    "dynamic_legacy_wi8_afp32", "dynamic_wi8_afp32", "dynamic_wi8c_afp32", "dynamic_wi4_afp32",
    "dynamic_wi4c_afp32", "dynamic_wi4b32_afp32", "dynamic_wi4b64_afp32",
]  # fmt: skip
STATIC = ["static_wi8_ai8", "static_wi8_ai16"]
WEIGHT_ONLY = ["weight_only_wi4_afp32", "weight_only_wi8_afp32"]
ALGORITHMS = [
    "dynamic_wi8_afp32:OCTAV", "dynamic_wi4_afp32:OCTAV", "dynamic_wi4b32_afp32:OCTAV",
    "weight_only_wi4_afp32:OCTAV", "dynamic_wi8_afp32:MSE", "dynamic_wi4_afp32:MSE",
]  # fmt: skip


def weights(rows: int = 96, columns: int = 256) -> Matrix:
    """Heavy-tailed, as those of language models are."""
    random = np.random.default_rng(0)
    return (random.standard_t(4, (rows, columns)) * 0.02).astype(np.float32)


def inputs(columns: int = 256) -> Matrix:
    """Rows whose columns go together."""
    random = np.random.default_rng(1)
    mixed = random.normal(size=(64, columns)) @ random.normal(size=(columns, columns))
    return (mixed / np.sqrt(columns)).astype(np.float32)


def ours(name: str, values: Matrix, role: Any = "projection", **known: Any) -> QuantizedTensor:
    weight = Weight("w", role, (values.shape[0], values.shape[1]), **known)
    return quantize(load_plugins().quantizer(f"aeq:{name}"), weight, values)


def theirs(
    path: Path, name: str, values: Matrix, *, lookup: bool = False, x: Matrix | None = None
) -> tuple[Any, Matrix, Matrix]:
    """What ``Quantizer`` makes of a file: the operation, integers and scales of its matrix."""
    plain = QuantizedTensor(values, bits=32)
    (write_lookup if lookup else write_product)(path, plain, length=1 if x is None else len(x))
    name, _, algorithm = name.partition(":")
    settings = getattr(recipe, name)(**({"algorithm_key": algorithm} if algorithm else {}))
    quantizer = Quantizer(str(path), settings)
    calibrated = None if x is None else quantizer.calibrate({"serving_default": [{"x": x}]})
    done = quantizer.quantize(calibrated)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(bytes(done.quantized_model), 0))
    return _stored(model, values.shape)


def _stored(model: Any, shape: tuple[int, ...]) -> tuple[Any, Matrix, Matrix]:
    [graph] = model.subgraphs
    named = {schema.BuiltinOperator.FULLY_CONNECTED, schema.BuiltinOperator.EMBEDDING_LOOKUP}
    code = [max(c.builtinCode, c.deprecatedBuiltinCode) for c in model.operatorCodes]
    [operator] = [o for o in graph.operators if code[o.opcodeIndex] in named]
    at = operator.inputs[1]
    for other in graph.operators:  # weight-only: what is multiplied is made of integers
        at = other.inputs[0] if at in other.outputs else at
    tensor = graph.tensors[at]
    data = np.frombuffer(bytes(model.buffers[tensor.buffer].data), np.int8)
    if tensor.type == schema.TensorType.INT4:
        data = np.stack([data << 4 >> 4, data >> 4], axis=1)
    scales = tensor.quantization.scale
    if tensor.quantization.details is not None:
        of_blocks = graph.tensors[tensor.quantization.details.scales]
        scales = np.frombuffer(bytes(model.buffers[of_blocks.buffer].data), np.float16)
    return operator, data.reshape(shape), np.asarray(scales, np.float32)


def assert_equal(tensor: QuantizedTensor, integers: Matrix, scales: Matrix) -> None:
    assert tensor.note == ""
    assert tensor.scales is not None
    np.testing.assert_array_equal(tensor.values, integers)
    np.testing.assert_array_equal(tensor.scales.ravel(), scales)


@pytest.mark.parametrize("name", [*DYNAMIC, *WEIGHT_ONLY, *ALGORITHMS])
def test_a_product_is_stored_bit_for_bit_as_by_the_quantizer(name: str, tmp_path: Path) -> None:
    values = weights()
    operator, *expected = theirs(tmp_path / "float.tflite", name, values)
    tensor = ours(name, values)
    assert_equal(tensor, *expected)
    assert tensor.activations == ("float" if name.startswith("weight") else "dynamic")
    assert operator.builtinOptions.weightsFormat == 0


@pytest.mark.parametrize("name", [*DYNAMIC, *WEIGHT_ONLY, *ALGORITHMS])
def test_a_table_is_stored_bit_for_bit_as_by_the_quantizer(name: str, tmp_path: Path) -> None:
    values = weights()
    _, *expected = theirs(tmp_path / "float.tflite", name, values, lookup=True)
    assert_equal(ours(name, values, "embedding"), *expected)


@pytest.mark.parametrize("name", ["dynamic_wi4_afp32:GPTQ", "dynamic_wi4b32_afp32:GPTQ"])
def test_gptq_is_bit_for_bit_the_quantizers_within_a_tile(name: str, tmp_path: Path) -> None:
    values, x = weights(), inputs()
    _, *expected = theirs(tmp_path / "float.tflite", name, values, x=x)
    assert_equal(ours(name, values, moments=Moments.of(x)), *expected)


def test_gptq_beyond_a_tile_still_makes_up_for_errors() -> None:
    values, x = weights(64, 1200), inputs(1200)
    compensated = ours("dynamic_wi4_afp32:GPTQ", values, moments=Moments.of(x))
    nearest = ours("dynamic_wi4_afp32:GPTQ", values)
    assert "no rows of inputs were seen: rounded to nearest" in nearest.note
    np.testing.assert_array_equal(nearest.values, ours("dynamic_wi4_afp32", values).values)
    errors = [np.linalg.norm(x @ (t.dequantize() - values).T) for t in (compensated, nearest)]
    assert errors[0] < 0.9 * errors[1]


def test_a_static_product_has_the_quantizers_weights_and_ranges(tmp_path: Path) -> None:
    values, x = weights(), inputs()
    seen = ActivationStatistics(Distribution.of(x), Distribution.of(x @ values.T))
    tensor = ours("static_wi8_ai8", values, statistics=seen)
    path = tmp_path / "float.tflite"
    _, *expected = theirs(path, "static_wi8_ai8", values, x=x)
    assert_equal(tensor, *expected)
    assert tensor.activations == "static"
    calibrated = Quantizer(str(path), recipe.static_wi8_ai8()).calibrate(
        {"serving_default": [{"x": x}]}
    )
    ranges = [(float(r["min"].item()), float(r["max"].item())) for r in calibrated.values()]
    for found, of in ((tensor.input, x), (tensor.output, x @ values.T)):
        [(low, high)] = [r for r in ranges if np.allclose(r, (of.min(), of.max()), rtol=1e-4)]
        assert found is not None
        # Ends of bins, so a little wider.
        assert 1 <= found.scale / ((high - low) / 255) < 1.01
        assert abs(found.zero_point - (-128 - low / found.scale)) < 2


def test_sixteen_bits_of_activations_have_the_quantizers_weights_and_ranges(tmp_path: Path) -> None:
    values, x = weights(), inputs()
    seen = ActivationStatistics(Distribution.of(x), Distribution.of(x @ values.T))
    tensor = ours("static_wi8_ai16", values, statistics=seen)
    _, *expected = theirs(tmp_path / "float.tflite", "static_wi8_ai16", values, x=x)
    assert_equal(tensor, *expected)
    assert tensor.activations == "static"
    for found, of in ((tensor.input, x), (tensor.output, x @ values.T)):
        assert found is not None
        assert (found.bits, found.zero_point) == (16, 0)
        # Ends of bins, so a little wider.
        assert 1 <= found.scale / (np.abs(of).max() / 32767) < 1.01


def test_static_products_need_texts_and_their_tables_stay_float() -> None:
    strategy = load_plugins().quantizer("aeq:static_wi8_ai8")
    assert needs_calibration(strategy)
    assert not takes_calibration(strategy)
    with pytest.raises(QuantizationError, match="'w' was multiplied with nothing"):
        ours("static_wi8_ai8", weights())
    table = ours("static_wi8_ai8", weights(), "embedding")
    assert table.bits == 32
    assert "does not quantize this EMBEDDING_LOOKUP: kept as float32" in table.note


def test_weights_that_were_rounded_before_are_recovered(tmp_path: Path) -> None:
    name = "dynamic_wi4_afp32:dequantized_weight_recovery"
    rounded = ours("dynamic_wi4_afp32", weights())
    _, *expected = theirs(tmp_path / "float.tflite", name, rounded.dequantize())
    recovered = ours(name, rounded.dequantize())
    assert_equal(recovered, *expected)
    np.testing.assert_array_equal(recovered.values, rounded.values)
    with pytest.raises(QuantizationError, match=r"failed on weight 'w'.*NOT dequantized"):
        ours(name, weights())


def test_rules_of_a_recipe_are_found_by_the_path_of_the_variable() -> None:
    strategy = load_plugins().quantizer("aeq:gemma4_mixed48")
    values = weights()
    bits = {
        name: quantize(strategy, Weight(name, "projection", (96, 256)), values).bits
        for name in ("decoder_block_3/query/kernel", "decoder_block_3/per_layer_gate/kernel")
    }
    assert list(bits.values()) == [4, 8]


def test_few_values_stay_float_where_a_recipe_says_so() -> None:
    small = weights(3, 64)
    tensor = ours("dynamic_legacy_wi8_afp32", small)
    assert (tensor.bits, tensor.note) == (32, "fewer than 1024 values: kept as float32")
    assert ours("dynamic_legacy_wi8_afp32", small, "embedding").bits == 8


def test_a_tied_table_is_stored_as_its_product_asks() -> None:
    assert ours("sample_advanced_usage", weights(), "embedding", tied=True).bits == 4
    assert ours("sample_advanced_usage", weights(), "embedding").bits == 32


@pytest.mark.parametrize(
    ("name", "values", "reason"),
    [
        ("dynamic_wi4b32_afp32", weights(4, 40), "in-dimension 40 is not a multiple of 32"),
        ("dynamic_wi4_afp32", weights(4, 31), "in-dimension 31 is not a multiple of 2"),
        ("dynamic_wi4b32_afp32", weights(4, 64) * np.float32(1e8), "finds no scale"),
        ("dynamic_wi4_afp32:MSE", weights(4, 64) * np.float32(1e-30), "MSE finds no scale"),
        ("dynamic_wi8_afp32:OCTAV", np.full((4, 64), 3e38, np.float32), "OCTAV finds no scale"),
    ],
)
def test_what_a_recipe_cannot_do_is_kept_at_eight_bits_and_said(
    name: str, values: Matrix, reason: str
) -> None:
    tensor = ours(name, values)
    assert (tensor.bits, tensor.block_size) == (8, 0)
    assert reason in tensor.note
    assert tensor.note.endswith(": kept at 8 bits")
    np.testing.assert_allclose(tensor.dequantize(), values, atol=float(np.abs(values).max()) / 127)


@pytest.mark.parametrize("name", ["dynamic_wi4b32_afp32", "dynamic_wi4_afp32:MSE", *ALGORITHMS])
def test_zeros_that_the_quantizer_divides_by_zero_stay_zeros(name: str) -> None:
    values = weights(4, 64)
    values[1] = 0
    values[2, :32] = 0
    restored = ours(name, values)
    assert restored.note == ""
    assert not restored.dequantize()[values == 0].any()


@pytest.mark.parametrize("name", ["dynamic_wi4b32_afp32", "dynamic_wi8_afp32:MSE"])
def test_chunks_leave_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = ours(name, weights())
    monkeypatch.setattr("llm_tflite.quantization._CHUNK_BYTES", 7 * 256 * 4)
    assert ours(name, weights()).dequantize().tobytes() == whole.dequantize().tobytes()


@pytest.mark.parametrize("name", ["dynamic_wi4_afp32", "dynamic_wi4b32_afp32"])
def test_the_runtime_reads_tables_of_four_bits(name: str, tmp_path: Path) -> None:
    tensor = ours(name, weights(), "embedding")
    write_lookup(tmp_path / "table.tflite", tensor, length=96)
    rows = np.arange(96, dtype=np.int32)[::-1].copy()
    found = run_product(tmp_path / "table.tflite", rows)
    np.testing.assert_array_equal(found, tensor.dequantize()[rows])


class TestBlocks(QuantizerConformance):
    strategy = load_plugins().quantizer("aeq:dynamic_wi4b32_afp32")


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("weight_only_wi8_afp32", None),
        ("dynamic_wi4_afp32:OCTAV", 0.2),
        ("weight_only_wi4_afp32:MSE", 0.2),
    ],
)
def test_a_recipe_conforms(name: str, bound: float | None) -> None:
    strategy = load_plugins().quantizer(f"aeq:{name}")
    check_quantizer(strategy, layouts=["forward"], relative_error=bound)


TEXTS = ["The river runs past the old mill.", "A cat sat on the mat.", "One, two, three."]


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma"])
def test_a_model_converts_with_four_bits_everywhere(family: str, tmp_path: Path) -> None:
    artifact = lt.Converter(
        tiny_model(family), quantizer="aeq:gemma4_mixed48", context_length=64, prefill_lengths=(8,)
    ).convert(tmp_path / "tiny.litertlm")
    told = artifact.manifest.quantization
    assert told.strategy == "aeq:gemma4_mixed48"
    assert told.describe["package"] == "ai-edge-quantizer 0.10.0"
    assert {rule["algorithm"] for rule in told.describe["rules"]} == {"min_max_uniform_quantize"}
    assert {weight.bits for weight in told.weights if weight.role != "table"} == {4}
    with lt.Interpreter(tmp_path / "tiny.litertlm") as interpreter:
        assert len(interpreter.generate("The", max_new_tokens=4).token_ids) == 4


@pytest.mark.parametrize("name", ["static_wi8_ai8", "static_wi8_ai16", "dynamic_wi8_afp32:GPTQ"])
def test_a_calibrated_recipe_needs_texts_and_converts_with_them(name: str, tmp_path: Path) -> None:
    strategy: Any = load_plugins().quantizer(f"aeq:{name}")
    assert strategy.least_agreement == 0.9
    with pytest.raises(InvalidOptionError, match="pass calibration="):
        lt.Converter(tiny_model("llama"), quantizer=strategy)
    # Random weights prefer no token by much.
    artifact = lt.Converter(
        tiny_model("llama"),
        layout="forward",
        quantizer=replace(strategy, least_agreement=0.5),
        calibration=TEXTS,
    ).convert(tmp_path / "tiny.tflite")
    assert artifact.manifest.quantization.describe["calibration"] == {"texts": 3}
    assert not any("rounded to nearest" in w.note for w in artifact.manifest.quantization.weights)


def test_the_list_of_plugins_has_every_recipe_that_can_be_stored() -> None:
    listed = plugins()[0].provides["quantizers"]
    recipes = [name for name in listed if name.startswith("aeq:")]
    assert {f"aeq:{name}" for name in (*DYNAMIC, *WEIGHT_ONLY, *STATIC)} < set(recipes)
    assert "aeq" not in listed
    assert load_plugins().quantizer_names()[-len(recipes) :] == recipes
    for name in recipes:
        assert describe(load_plugins().quantizer(name))["package"] == "ai-edge-quantizer 0.10.0"


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("aeq", "expected 'aeq' with one of its parameters, as in 'aeq:.*dynamic_wi8_afp32"),
        ("aeq:int4", "expected a recipe of ai-edge-quantizer 0.10.0 out of .*; got 'int4'"),
        ("aeq:../recipes/default_a8w8_recipe.json", "expected a recipe of"),
        ("aeq:dynamic_wi4_afp32:GPT", "expected an algorithm out of .*OCTAV.*; got 'GPT'"),
        ("aeq:dynamic_legacy_wi8_afp32:MSE", "has an algorithm of its own; leave out 'MSE'"),
        ("aeq:dynamic_wi4b32_afp32:MSE", "MSE takes no blocks of 32"),
        ("aeq:dynamic_wi2c_afp32", "no kernel here reads weights of 2 bits"),
        ("aeq:dynamic_wi8b32_afp32", "quantizes no matrix"),
        ("aeq:dynamic_wi4c_hr_afp32", "ROTATION inserts products that rotate activations"),
        ("aeq:gemma4_mixed48_hr", "ROTATION inserts products that rotate activations"),
        ("aeq:default_af32w4float", "weights would have zero points"),
    ],
)
def test_what_cannot_be_had_is_refused_at_once_and_by_name(name: str, complaint: str) -> None:
    with pytest.raises(InvalidOptionError, match=complaint):
        load_plugins().quantizer(name)


@pytest.mark.parametrize(
    ("config", "obstacle"),
    [
        ({"weight": {"num_bits": 8, "granularity": "CHANNELWISE"}}, ""),
        ({"weight": {"num_bits": 8, "granularity": "BLOCKWISE_32"}}, "blocks of 8 bits"),
        ({"weight": {"num_bits": 8, "granularity": "TENSORWISE"}}, "scales .* be TENSORWISE"),
        ({"weight": {"num_bits": 16, "dtype": "FLOAT"}}, r"weights of 16 bits \(FLOAT\)"),
        ({"weight": {"num_bits": 4, "granularity": "BLOCKWISE_32"}}, "DEQUANTIZE takes no blocks"),
        (
            {
                "weight": {"num_bits": 4, "granularity": "CHANNELWISE"},
                "activation": {"num_bits": 16, "symmetric": False},
            },
            "activations would be asymmetric integers of 16 bits",
        ),
        (
            {
                "weight": {"num_bits": 4, "granularity": "CHANNELWISE"},
                "activation": {"num_bits": 8, "symmetric": False},
            },
            "static products are of 8-bit weights only",
        ),
    ],
)
def test_a_setting_that_no_kernel_reads_is_an_obstacle(config: Any, obstacle: str) -> None:
    """Settings that the recipes of this version do not have, but ``skip_checks`` would let pass."""
    static = "activation" in config
    settings = qtyping.OpQuantizationConfig.from_dict(
        {f"{name}_tensor_config": of for name, of in config.items()}
        | {"compute_precision": "INTEGER" if static else "FLOAT", "explicit_dequantize": not static}
    )
    found = Rule(".*", "FULLY_CONNECTED", "OCTAV", settings).obstacle()
    assert re.search(obstacle, found) if obstacle else found == ""


def test_without_the_package_the_error_names_the_extra() -> None:
    code = (
        "import sys, importlib.metadata as m\n"
        "from llm_tflite.plugins import load_plugins, plugins\n"
        "found = m.version\n"
        "def version(name):\n"
        "    if name == 'ai-edge-quantizer': raise m.PackageNotFoundError(name)\n"
        "    return found(name)\n"
        "m.version = version; sys.modules['ai_edge_quantizer'] = None\n"
        "assert plugins()[0].provides['quantizers'][-1] == 'aeq' and not plugins()[0].error\n"
        "for name in ('aeq', 'aeq:dynamic_wi8_afp32'):\n"
        "    try: load_plugins().quantizer(name)\n"
        "    except ImportError as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("MissingDependencyError")
        assert "pip install 'llm-tflite[aeq]'" in line


def test_looking_for_plugins_does_not_import_the_package() -> None:
    code = (
        "import sys; from llm_tflite.plugins import load_plugins; load_plugins().quantizer('int4');"
        "assert 'ai_edge_quantizer' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
