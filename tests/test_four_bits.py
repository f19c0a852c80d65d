"""Four bits: every form runs in LiteRT as it is stored, and calibration makes up for errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from one_product import run_product, write_product

from llm_tflite.activations import Moments
from llm_tflite.errors import QuantizationError
from llm_tflite.plugins import load_plugins
from llm_tflite.quantization import QuantizedTensor, Weight, plan, quantize

Matrix = np.ndarray[Any, np.dtype[np.float32]]

FORMS = {
    "int4": 32,
    "int4_block32": 32,
    "int4_block64": 64,
    "int4_block128": 128,
    "int4_channel": 0,
}
CALIBRATED = [*FORMS, "mixed"]
STRATEGIES = ["none", "float16", "dynamic_range", "weight_only_int8", *CALIBRATED]


def gaussian(*shape: int, seed: int = 0) -> Matrix:
    return np.random.default_rng(seed).normal(0, 0.02, shape).astype(np.float32)


def inputs(rows: int, columns: int) -> Matrix:
    """Rows whose columns are of different sizes and go together, as those of real models."""
    factors = gaussian(rows, columns // 8, seed=1) @ gaussian(columns // 8, columns, seed=2)
    noise = gaussian(rows, columns, seed=3) * 1e-2
    return np.asarray((factors + noise) * np.geomspace(0.1, 10, columns), np.float32)


def apply(name: str, values: Matrix, moments: Moments | None = None) -> QuantizedTensor:
    weight = Weight("layer_0/feedforward/kernel", "projection", values.shape, layer=0)  # type: ignore[arg-type]
    if moments is not None:
        weight = Weight(weight.name, weight.role, weight.shape, layer=0, moments=moments)
    return quantize(load_plugins().quantizer(name), weight, values)


@pytest.mark.parametrize("name", FORMS)
def test_the_runtime_multiplies_with_what_is_stored(name: str, tmp_path: Path) -> None:
    tensor = apply(name, gaussian(48, 256))
    assert (tensor.bits, tensor.block_size) == (4, FORMS[name])
    write_product(tmp_path / "m.tflite", tensor, length=3)
    x = gaussian(3, 256, seed=4)
    expected = x @ tensor.dequantize().T
    found = run_product(tmp_path / "m.tflite", x)
    # What is left is the rounding of activations to eight bits.
    assert np.linalg.norm(found - expected) < 0.012 * np.linalg.norm(expected)


@pytest.mark.parametrize(
    ("name", "columns", "multiple"),
    [("int4_block64", 288, 64), ("int4_block128", 192, 128), ("int4_channel", 33, 2)],
)
def test_a_width_that_the_form_does_not_divide_is_kept_at_eight_bits(
    name: str, columns: int, multiple: int
) -> None:
    tensor = apply(name, gaussian(4, columns))
    assert tensor.bits == 8
    assert tensor.note == (
        f"in-dimension {columns} is not a multiple of {multiple}: kept at 8 bits"
    )


def test_larger_blocks_take_less_and_lose_more() -> None:
    values = gaussian(64, 768)
    tensors = [apply(name, values) for name in list(FORMS)[1:]]
    sizes = [tensor.size_bytes * 8 / values.size for tensor in tensors]
    errors = [float(np.square(tensor.dequantize() - values).sum()) for tensor in tensors]
    assert sizes == [4.5, 4.25, 4.125, 4 + 32 / 768]
    assert errors == sorted(errors)


@pytest.mark.parametrize("name", CALIBRATED)
def test_calibration_halves_the_error_of_what_comes_out(name: str) -> None:
    values, x = gaussian(96, 640), inputs(800, 640)
    plain, calibrated = apply(name, values), apply(name, values, Moments.of(x))
    seen, unseen = x, inputs(1600, 640)[800:]
    for rows in (seen, unseen):
        expected = rows @ values.T
        errors = [
            float(np.square(rows @ tensor.dequantize().T - expected).sum())
            for tensor in (plain, calibrated)
        ]
        assert errors[1] < 0.5 * errors[0]
    assert calibrated.size_bytes == plain.size_bytes
    assert calibrated.bits == 4


@pytest.mark.parametrize("name", CALIBRATED)
def test_the_same_moments_give_the_same_bytes(name: str) -> None:
    values, moments = gaussian(32, 384), Moments.of(inputs(100, 384))
    first, second = apply(name, values, moments), apply(name, np.asfortranarray(values), moments)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(first.scales, second.scales)


@pytest.mark.parametrize("silent", ["columns", "everything"])
@pytest.mark.parametrize("name", CALIBRATED)
def test_inputs_that_are_always_zero_do_no_harm(name: str, silent: str) -> None:
    values, x = gaussian(16, 384), inputs(50, 384)
    x[:, 5:300] = 0
    if silent == "everything":
        x[:] = 0
    restored = apply(name, values, Moments.of(x)).dequantize()
    assert np.linalg.norm(restored - values) < 0.3 * np.linalg.norm(values)


@pytest.mark.parametrize("moments", [None, Moments.of(inputs(50, 256)), Moments.of(inputs(1, 256))])
@pytest.mark.parametrize("name", STRATEGIES)
def test_zeros_stay_zeros(name: str, moments: Moments | None) -> None:
    assert not apply(name, np.zeros((8, 256), np.float32), moments).dequantize().any()
    values = gaussian(8, 256)
    values[[0, 5]] = 0
    restored = apply(name, values, moments).dequantize()
    assert not restored[[0, 5]].any()
    assert restored[[1, 7]].any()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", STRATEGIES)
def test_values_that_are_not_finite_are_refused_by_name(name: str, value: float) -> None:
    values = gaussian(4, 128)
    values[2, 3] = value
    with pytest.raises(QuantizationError, match="'layer_0/feedforward/kernel' must be finite"):
        apply(name, values)
    weight = Weight("layer_0/kernel", "projection", (4, 128))
    with pytest.raises(QuantizationError, match="'layer_0/kernel' must be finite"):
        plan(load_plugins().quantizer("mixed:0.9"), [(weight, values)])


def test_moments_add_up_over_rows_and_are_cut_into_tiles() -> None:
    x = gaussian(40, 1068)
    whole, parts = Moments.of(x), Moments.of(x[:7]) + Moments.of(x[7:])
    assert whole.rows == parts.rows == 40
    assert [len(tile) for tile in whole.tiles] == [1024, 44]
    np.testing.assert_allclose(whole.tiles[1], x[:, 1024:].T @ x[:, 1024:], rtol=1e-5, atol=1e-7)
    for one, other in zip(whole.tiles, parts.tiles, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(parts.mean_squares, np.square(x).mean(axis=0), rtol=1e-4)
