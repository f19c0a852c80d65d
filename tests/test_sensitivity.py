"""What the loss says of each product's outputs, beside gradients of variables that Keras has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from llm_tflite.activations import Moments
from llm_tflite.conversion.calibration import collect_moments, collect_sensitivity
from llm_tflite.demo import shapes
from llm_tflite.errors import ConversionError
from llm_tflite.tracing import reference
from llm_tflite.tracing.sensitivity import SliceUpdates

TEXT = [3, 17]  # the second token is predicted and predicts none: one row has a gradient


@pytest.fixture(scope="module")
def gpt2() -> Any:
    return shapes.tiny_gpt2()


def sensitivity(model: Any, *texts: list[int]) -> dict[str, Moments]:
    return collect_sensitivity(model, texts, lambda step: None)


def test_gradients_are_those_of_the_biases_behind_the_products(gpt2: Any) -> None:
    ids = np.array([TEXT], np.int32)
    with tf.GradientTape() as tape:
        logits = gpt2({"token_ids": ids, "padding_mask": np.ones_like(ids)})
        loss = -tf.nn.log_softmax(logits[0, 0])[TEXT[1]]
    biases = {w.path: w.value for w in gpt2.trainable_variables if w.path.endswith("/bias")}
    expected = dict(zip(biases, tape.gradient(loss, list(biases.values())), strict=True))
    found = sensitivity(gpt2, TEXT)
    compared = 0
    for name, moments in found.items():
        bias = name.replace("/kernel", "/bias")
        if bias not in expected:
            continue
        assert moments.gradients is not None
        squares = np.square(np.asarray(expected[bias])).reshape(-1)
        np.testing.assert_allclose(moments.gradients, squares, rtol=1e-3, atol=1e-10)
        compared += bool(squares.max() > 1e-6)
    assert compared == 4 * 3  # a token that sees none but itself depends on no query and no key


def test_moments_are_those_of_a_plain_calibration(gpt2: Any) -> None:
    texts = [[5, 6, 7, 8, 9], [20, 21, 22]]
    plain = collect_moments(gpt2, texts, lambda step: None)
    found = sensitivity(gpt2, *texts)
    assert found.keys() == plain.keys()
    for name, moments in plain.items():
        assert moments.gradients is None
        assert found[name].rows == moments.rows == 8
        for one, other in zip(found[name].tiles, moments.tiles, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_gradients_add_up_over_texts(gpt2: Any) -> None:
    one, other = [5, 6, 7, 8, 9], [20, 21, 22]
    parts, both = (sensitivity(gpt2, one), sensitivity(gpt2, other)), sensitivity(gpt2, one, other)
    for name, moments in both.items():
        gradients = [part[name].gradients for part in parts]
        assert moments.gradients is not None
        np.testing.assert_allclose(moments.gradients, np.add(*gradients), rtol=1e-4, atol=1e-10)


def test_it_is_the_same_through_a_cache(gpt2: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for models whose functional form cannot be asked."""
    text = [5, 6, 7, 8, 9]
    expected = sensitivity(gpt2, text)
    monkeypatch.setattr(reference, "reads_text_alone", lambda model: False)
    found = sensitivity(gpt2, text)
    assert found.keys() == expected.keys()
    for name, moments in expected.items():
        gradients = found[name].gradients
        assert gradients is not None
        scale = np.max(moments.gradients)
        np.testing.assert_allclose(gradients, moments.gradients, rtol=1e-2, atol=1e-4 * scale)


def test_an_operation_without_a_gradient_is_named(
    gpt2: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "reads_text_alone", lambda model: False)
    monkeypatch.setattr(SliceUpdates, "intercepted", ())
    with pytest.raises(ConversionError, match=r"gradient of every operation of GPT2CausalLM.*Xla"):
        sensitivity(gpt2, [5, 6, 7])
