"""The claims of every strategy, and what this one promises beside them."""

from __future__ import annotations

import numpy as np
import pytest
from llm_tflite_hqq import HalfQuadratic

from llm_tflite import QuantizedTensor, Weight
from llm_tflite.testing import QuantizerConformance


class TestHalfQuadratic(QuantizerConformance):
    strategy = HalfQuadratic()


def quantize(values: np.ndarray, strategy: HalfQuadratic, role="projection") -> QuantizedTensor:
    return strategy.quantize(Weight("w", role, values.shape), values)


def loss(values: np.ndarray, tensor: QuantizedTensor) -> float:
    return float((np.abs(tensor.dequantize() - values) ** 0.7).sum())


@pytest.fixture
def values() -> np.ndarray:
    """As heavy-tailed as the weights of a language model can be."""
    return np.random.default_rng(0).standard_t(4, (64, 256)).astype(np.float32) * 0.02


def test_it_loses_less_than_the_largest_value_of_a_block_over_eight(values: np.ndarray) -> None:
    start = quantize(values, HalfQuadratic(rounds=0))
    assert loss(values, quantize(values, HalfQuadratic())) < 0.98 * loss(values, start)


def test_embeddings_are_kept_at_eight_bits(values: np.ndarray) -> None:
    assert quantize(values, HalfQuadratic(), "embedding").bits == 8


def test_a_width_that_blocks_do_not_divide_is_kept_at_eight_bits_and_said(
    values: np.ndarray,
) -> None:
    tensor = quantize(values[:, :100], HalfQuadratic())
    assert tensor.bits == 8
    assert "100 is not a multiple of 32: kept at 8 bits" in tensor.note
