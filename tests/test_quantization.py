"""What may be quantized, what a strategy may return, and who is named when either is wrong."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from llm_tflite.activations import ActivationScale
from llm_tflite.errors import InvalidOptionError, QuantizationError
from llm_tflite.quantization import (
    QuantizedTensor,
    Weight,
    check_finite,
    check_strategy,
    describe,
    quantize,
    row_chunks,
)

WEIGHT = Weight("decoder/dense/kernel", "projection", (3, 64))
VALUES = np.linspace(-1, 1, 3 * 64, dtype=np.float32).reshape(3, 64)


@dataclass
class Returning:
    """A strategy that gives back whatever it was told to, or raises it."""

    result: object
    name: str = "returning"
    lossless: bool = False
    description: object = field(default_factory=dict)

    def describe(self) -> Any:
        return self.description

    def quantize(self, weight: Weight, values: Any) -> Any:
        if isinstance(self.result, BaseException):
            raise self.result
        return self.result(values) if callable(self.result) else self.result


INT8 = QuantizedTensor(np.ones((3, 64), np.int8), 8, np.ones(3, np.float32))
INT4 = QuantizedTensor(np.ones((3, 64), np.int8), 4, np.ones((3, 2), np.float32), block_size=32)
FLOAT = QuantizedTensor(VALUES, 32)
SCALE = ActivationScale(0.5, -3)
WIDE = ActivationScale(0.5, 0, bits=16)
STATIC = replace(INT8, activations="static", input=SCALE, output=SCALE)


@pytest.mark.parametrize("tensor", [INT8, INT4, FLOAT, STATIC])
def test_a_good_tensor_is_accepted(tensor: QuantizedTensor) -> None:
    assert quantize(Returning(tensor), WEIGHT, VALUES) is tensor


def test_dequantizing_multiplies_each_block_by_its_own_scale() -> None:
    scales = np.array([[1, 2], [3, 4], [5, 6]], np.float32)
    expected = np.repeat(scales, 32, axis=1)
    np.testing.assert_array_equal(replace(INT4, scales=scales).dequantize(), expected)
    np.testing.assert_array_equal(
        replace(INT8, scales=scales[:, 0]).dequantize(), np.repeat(scales[:, :1], 64, axis=1)
    )


def _with_value(tensor: QuantizedTensor, value: float) -> QuantizedTensor:
    values = tensor.values.copy()
    values[1, 2] = value
    return replace(tensor, values=values)


@pytest.mark.parametrize(
    ("tensor", "complaint"),
    [
        (replace(INT8, bits=5), "4, 8, 16 or 32 bits, not 5"),
        (replace(INT8, bits=16), "must be of float16 at 16 bits, not int8"),
        (replace(INT8, values=[[1]]), "must be of int8 at 8 bits, not list"),  # type: ignore[arg-type]
        (replace(INT8, values=INT8.values.T), r"shape \(3, 64\), not \(64, 3\)"),
        (replace(INT8, activations="int8"), "not 'int8'"),  # type: ignore[arg-type]
        (_with_value(INT8, -128), r"within \[-127, 127\], but spans \[-128, 1\]"),
        (_with_value(INT4, 8), r"within \[-8, 7\], but spans \[1, 8\]"),
        (_with_value(FLOAT, np.inf), "infinite or NaN"),
        (replace(FLOAT, scales=np.ones(3, np.float32)), "must have no scales"),
        (replace(INT8, scales=None), "float32 scales, not NoneType"),
        (replace(INT8, scales=np.ones(3)), "float32 scales, not float64"),  # type: ignore[arg-type]
        (replace(INT8, scales=np.ones(4, np.float32)), r"shape \(3,\), not \(4,\)"),
        (replace(INT4, scales=np.ones(3, np.float32)), r"shape \(3, 2\), not \(3,\)"),
        (replace(INT8, scales=np.zeros(3, np.float32)), "positive, finite scales"),
        (replace(INT8, scales=np.full(3, np.nan, np.float32)), "positive, finite scales"),
        (replace(INT8, input=SCALE), "no input scale unless activations are 'static'"),
        (replace(STATIC, output=None), "must have an ActivationScale as output, not NoneType"),
        (replace(STATIC, input=ActivationScale(0.0, 0)), "as input a positive, finite scale"),
        (replace(STATIC, input=ActivationScale(np.inf, 0)), "as input a positive, finite scale"),
        (replace(STATIC, output=ActivationScale(1.0, 128)), r"zero point within \[-128, 127\]"),
        (replace(STATIC, input=WIDE), "must have the same number of bits as input and output"),
        (replace(STATIC, input=ActivationScale(1.0, 3, 16)), "the zero point 0, as it has 16 bits"),
        (replace(STATIC, output=ActivationScale(1.0, 0, 4)), "as output 8 or 16 bits, not 4"),
        (replace(STATIC, output=ActivationScale(1.0, 0.5)), "a whole zero point, not 0.5"),  # type: ignore[arg-type]
        (replace(INT4, activations="static", input=SCALE, output=SCALE), "must have 8 bits and"),
        (replace(FLOAT, activations="static", input=SCALE, output=SCALE), "must have 8 bits and"),
        (replace(INT4, block_size=48), "blocks of 48, which do not divide rows of 64"),
        (replace(INT4, block_size=-32), "block size of 0 or more, not -32"),
    ],
)
def test_a_tensor_that_cannot_be_stored_is_refused(tensor: QuantizedTensor, complaint: str) -> None:
    with pytest.raises(QuantizationError, match=f"'decoder/dense/kernel' .*{complaint}"):
        quantize(Returning(tensor), WEIGHT, VALUES)


@pytest.mark.parametrize("result", [None, "int8", VALUES])
def test_a_strategy_that_returns_something_else_is_named(result: object) -> None:
    with pytest.raises(QuantizationError, match="'returning' must return a QuantizedTensor"):
        quantize(Returning(result), WEIGHT, VALUES)


@pytest.mark.parametrize("failure", [KeyError("x"), MemoryError(), SystemExit(3)])
def test_a_strategy_that_fails_is_named_with_the_weight(failure: BaseException) -> None:
    with pytest.raises(QuantizationError, match=r"'returning' failed on .*dense/kernel") as caught:
        quantize(Returning(failure), WEIGHT, VALUES)
    assert caught.value.__cause__ is failure


def test_an_interruption_by_the_user_is_passed_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        quantize(Returning(KeyboardInterrupt()), WEIGHT, VALUES)


def test_a_strategy_cannot_change_the_model() -> None:
    def spoil(values: Any) -> QuantizedTensor:
        values[:] = 0
        return QuantizedTensor(values, 32)

    before = VALUES.copy()
    with pytest.raises(QuantizationError, match="read-only"):
        quantize(Returning(spoil), WEIGHT, VALUES)
    np.testing.assert_array_equal(VALUES, before)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_weight_that_is_not_finite_is_refused_by_name(bad: float) -> None:
    values = VALUES.copy()
    values[2, 5:7] = bad
    with pytest.raises(QuantizationError, match=r"'decoder/dense/kernel'.* 2 of its 192 values"):
        check_finite(WEIGHT, values)


def test_chunks_cover_every_row_once_however_long() -> None:
    for shape in [(1, 1), (3, 64), (5000, 1000), (2, 3_000_000)]:
        values = np.broadcast_to(np.float32(0), shape)
        rows = [row for chunk in row_chunks(values) for row in range(shape[0])[chunk]]
        assert rows == list(range(shape[0]))


def test_a_description_becomes_plain_json() -> None:
    assert describe(Returning(None, description={"bits": (4, 8)})) == {"bits": [4, 8]}


@pytest.mark.parametrize("said", [None, {"x": float("nan")}, {"x": b"bytes"}, "bits"])
def test_a_description_that_json_cannot_hold_is_refused(said: object) -> None:
    with pytest.raises(QuantizationError, match=r"'returning' failed on describe\(\)"):
        describe(Returning(None, description=said))


@dataclass
class Asking(Returning):
    needs_calibration: bool = True
    least_agreement: float = 0.5


class WithoutMethods:
    name = "bare"
    lossless = True


@pytest.mark.parametrize(
    ("candidate", "complaint"),
    [
        (Returning, "got the class Returning; pass an instance"),
        (None, "the name of this NoneType is None"),
        (Returning(None, name=""), "the name of this Returning is ''"),
        (Returning(None, name="two words"), "'two words'"),
        (Returning(None, name="x" * 10_000), "the name of this Returning is 'xxx"),
        (Returning(None, lossless="yes"), "Returning.lossless is not True or False"),  # type: ignore[arg-type]
        (Asking(None, needs_calibration=1), "Asking.needs_calibration is not True or False"),  # type: ignore[arg-type]
        (Asking(None, least_agreement=90), "Asking.least_agreement is 90; it is a share from 0"),
        (WithoutMethods(), r"WithoutMethods has no method describe\(\)"),
    ],
)
def test_something_that_is_no_strategy_is_refused_with_the_reason(
    candidate: object, complaint: str
) -> None:
    with pytest.raises(InvalidOptionError, match=complaint) as caught:
        check_strategy(candidate)
    assert len(str(caught.value)) < 400
