"""How far each built-in strategy may stray from the weights it is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llm_tflite.plugins import load_plugins
from llm_tflite.quantization import QuantizedTensor, Weight, describe, quantize

FOUR_BITS = ["int4", "int4_block32", "int4_block64", "int4_block128", "int4_channel"]
NAMES = ["none", "float16", "dynamic_range", "weight_only_int8", *FOUR_BITS, "mixed"]

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def matrices(columns: st.SearchStrategy[int], bound: float) -> st.SearchStrategy[Matrix]:
    """Matrices with zeros, subnormals, repeated and very different magnitudes."""
    shapes = st.tuples(st.integers(1, 5), columns)
    elements = st.floats(-bound, bound, width=32)
    return shapes.flatmap(lambda shape: hnp.arrays(np.float32, shape, elements=elements))


ANY = matrices(st.integers(1, 70), 2.0**127)
BLOCKS = matrices(st.sampled_from([32, 64, 96]), 2.0**18)


def apply(name: str, values: Matrix, role: Any = "projection") -> QuantizedTensor:
    """Quantize as the converter does, which validates the result."""
    weight = Weight("w", role, (values.shape[0], values.shape[1]))
    return quantize(load_plugins().quantizer(name), weight, values)


def gaussian(rows: int, columns: int) -> Matrix:
    return np.random.default_rng(0).normal(0, 0.02, (rows, columns)).astype(np.float32)


def relative_error(values: Matrix, restored: Matrix) -> float:
    return float(np.linalg.norm(restored - values) / np.linalg.norm(values))


def test_these_are_the_built_in_strategies() -> None:
    calibrated = ["full_integer", "full_integer_int16"]
    assert load_plugins().quantizer_names()[: len(NAMES) + 2] == [*NAMES, *calibrated]
    assert [load_plugins().quantizer(name).lossless for name in NAMES] == [True] + [False] * 9
    assert all(describe(load_plugins().quantizer(name)) for name in NAMES)


@given(ANY)
def test_none_changes_nothing(values: Matrix) -> None:
    np.testing.assert_array_equal(apply("none", values).dequantize(), values)


@given(matrices(st.integers(1, 70), 65504))
def test_float16_is_within_half_a_unit_in_the_last_place(values: Matrix) -> None:
    tensor = apply("float16", values)
    bound = np.maximum(np.abs(values) * np.float32(2.0**-11), 2.0**-25)
    assert tensor.values.dtype == np.float16
    assert (np.abs(tensor.dequantize() - values) <= bound).all()


def test_a_value_too_large_for_float16_keeps_its_matrix_in_float32() -> None:
    values = np.array([[1, -70000]], np.float32)
    tensor = apply("float16", values)
    assert tensor.bits == 32
    assert "70000 exceeds float16: kept at 32 bits" in tensor.note


@pytest.mark.parametrize(
    ("name", "activations"), [("dynamic_range", "dynamic"), ("weight_only_int8", "float")]
)
@given(values=ANY)
def test_int8_is_within_half_a_step_of_each_row(
    name: str, activations: str, values: Matrix
) -> None:
    tensor = apply(name, values)
    error = np.abs(tensor.dequantize().astype(np.float64) - values)
    assert tensor.activations == activations
    assert tensor.scales is not None
    assert (error <= 0.5001 * tensor.scales[:, None].astype(np.float64)).all()


def storable(scales: Matrix) -> Matrix:
    """Round to bfloat16 by its bits, then to float16."""
    bits = scales.astype(np.float32).view(np.uint32)
    bfloat = ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).view(np.float32)
    return np.maximum(bfloat.astype(np.float16).astype(np.float32), np.float32(2.0**-24))


@given(BLOCKS)
def test_int4_scales_are_held_by_float16_and_by_bfloat16(values: Matrix) -> None:
    scales = apply("int4", values).scales
    assert scales is not None
    np.testing.assert_array_equal(scales, storable(scales))


@given(BLOCKS)
def test_int4_is_never_worse_than_a_seventh_of_the_largest_magnitude(values: Matrix) -> None:
    tensor = apply("int4", values)
    blocks = values.reshape(-1, 32)
    scales = storable(np.abs(blocks).max(axis=1, keepdims=True) / 7)
    plain = np.clip(np.rint(blocks / scales), -8, 7) * scales
    error = np.square(tensor.dequantize().reshape(-1, 32) - blocks, dtype=np.float64).sum(axis=1)
    plain_error = np.square(plain - blocks, dtype=np.float64).sum(axis=1)
    assert tensor.bits == 4
    assert (error <= plain_error * 1.00001).all()


def test_int4_loses_an_eighth_less_than_plain_rounding() -> None:
    values = gaussian(256, 768)
    blocks = values.reshape(-1, 32)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / 7
    plain = (np.rint(blocks / scale) * scale).reshape(values.shape)
    best = relative_error(values, apply("int4", values).dequantize())
    assert best < 0.0865
    assert best < 0.89 * relative_error(values, plain)


def test_int4_uses_both_ends_of_its_range() -> None:
    integers = apply("int4", gaussian(256, 768)).values
    assert (integers.min(), integers.max()) == (-8, 7)


@given(st.data())
def test_int4_restores_exactly_what_its_format_can_hold(data: st.DataObject) -> None:
    integers = data.draw(hnp.arrays(np.int8, (2, 32), elements=st.integers(-8, 7)))
    integers[:, 0] = -8
    scales = data.draw(hnp.arrays(np.float32, (2, 1), elements=st.sampled_from([2.0**-9, 0.75])))
    values = integers * scales
    np.testing.assert_array_equal(apply("int4", values).dequantize(), values)


def test_int4_keeps_embeddings_at_eight_bits() -> None:
    tensor = apply("int4", gaussian(4, 64), role="embedding")
    assert (tensor.bits, tensor.note) == (8, "")


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (gaussian(4, 30), "in-dimension 30 is not a multiple of 32: kept at 8 bits"),
        (gaussian(4, 32) * 1e9, "exceeds float16 scales: kept at 8 bits"),
    ],
)
def test_int4_says_why_it_kept_a_matrix_at_eight_bits(values: Matrix, reason: str) -> None:
    tensor = apply("int4", values)
    assert tensor.bits == 8
    assert reason in tensor.note


@pytest.mark.parametrize("name", NAMES)
def test_zero_rows_stay_zero_with_scale_one(name: str) -> None:
    values = gaussian(3, 64)
    values[1] = 0
    tensor = apply(name, values)
    assert not tensor.dequantize()[1].any()
    if tensor.scales is not None:
        assert (tensor.scales[1] == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_the_same_weights_give_the_same_bytes_in_any_memory_layout(name: str) -> None:
    values = gaussian(40, 96)
    first, second = apply(name, values), apply(name, np.asfortranarray(values))
    assert first.values.tobytes() == second.values.tobytes()
    np.testing.assert_array_equal(first.dequantize(), second.dequantize())


@pytest.mark.parametrize("name", NAMES)
def test_chunks_leave_no_trace(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    values = gaussian(40, 96)
    whole = apply(name, values)
    monkeypatch.setattr("llm_tflite.quantization._CHUNK_BYTES", 7 * 96 * 4)
    np.testing.assert_array_equal(apply(name, values).dequantize(), whole.dequantize())
