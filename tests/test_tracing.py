"""The views: what they recognise is faster and the same, what they do not is the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf

import llm_tflite as lt
from llm_tflite.demo import shapes
from llm_tflite.tracing.cache_views import CacheViews
from llm_tflite.tracing.einsum import Equation
from llm_tflite.tracing.float_weights import FloatWeight
from llm_tflite.tracing.fold import fold
from llm_tflite.tracing.interception import intercept
from llm_tflite.tracing.mask_views import WipedRows, additive_masks
from llm_tflite.tracing.norm_views import NormViews
from llm_tflite.tracing.probe import CacheTensor, probe_cache
from llm_tflite.tracing.weight_views import WeightViews
from llm_tflite.tracing.window_views import WindowViews

RANDOM = np.random.default_rng(0)


def run(build: Callable[[], tf.Tensor], *views: Any) -> np.ndarray:
    """Evaluate what ``build`` records in a graph of its own, through the views."""
    with tf.Graph().as_default(), intercept(*views):
        result = build()
        with tf.compat.v1.Session() as session:
            return np.asarray(session.run(result))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bquh,bkuh->buqk", Equation(("bquh", "bkuh"), "buqk")),
        ("a b, b c -> a c", Equation(("ab", "bc"), "ac")),
        ("ab,bc", None),
        ("...a,ab->...b", None),
        ("a,b,c->abc", None),
        ("aa,ab->b", None),
    ],
)
def test_only_plain_equations_of_two_operands_are_read(
    text: str, expected: Equation | None
) -> None:
    assert Equation.parse(text) == expected


@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.parametrize("heads", [4, 2])
@pytest.mark.parametrize(
    ("subscripts", "other_shape"),
    [
        ("bquh,bkuh->buqk", (1, 3, 4, 8)),  # Llama's scores
        ("buqk,bkuh->bquh", (1, 4, 3, 16)),  # Llama's combination
        ("acbe,aecd->abcd", (1, 4, 3, 16)),  # Keras' MultiHeadAttention
        ("bquh,bkuh->bkqu", (1, 3, 4, 8)),
    ],
)
def test_a_product_with_a_cache_is_the_plain_einsum(
    subscripts: str, other_shape: tuple[int, ...], heads: int, kind: Any
) -> None:
    cache = RANDOM.normal(size=(1, 16, heads, 8)).astype(np.float32)
    other = RANDOM.normal(size=other_shape).astype(np.float32)
    tensor = CacheTensor("cache", kind, cache.shape)
    views = CacheViews()

    def product() -> tf.Tensor:
        logical = views.register(tf.constant(cache.transpose(tensor.permutation)), tensor)
        if heads == 2:
            logical = keras.ops.repeat(logical, 2, axis=2)
        return keras.ops.einsum(subscripts, tf.constant(other), logical)

    expected = np.einsum(subscripts, other, np.repeat(cache, 4 // heads, axis=2))
    np.testing.assert_allclose(run(product, views), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("kind", ["key", "value"])
@pytest.mark.parametrize("extent", [None, (2, 6)])
def test_attention_by_matmul_is_the_plain_one(
    extent: tuple[int, int] | None, kind: Any, tokens: int
) -> None:
    """The first two heads of a cache for four, and the first six of eight numbers of each."""
    cache = RANDOM.normal(size=(1, 16, 4, 8)).astype(np.float32)
    tensor = CacheTensor("cache", kind, cache.shape, extent=extent)
    if extent is not None:
        cache[:, :, extent[0] :] = cache[..., extent[1] :] = 0
    size, slots = (6, 16) if kind == "key" else (16, 6)
    other = RANDOM.normal(size=(1, 2, 3, tokens, size)).astype(np.float32)
    views = CacheViews()

    def product() -> tf.Tensor:
        stored = cache.transpose(tensor.permutation)[tuple(map(slice, tensor.shape))]
        seen = views.register(tf.constant(stored), tensor)[..., :2, :6]
        axes = (0, 2, 3, 1) if kind == "key" else (0, 2, 1, 3)
        seen = keras.ops.expand_dims(keras.ops.transpose(seen, axes), 2)
        result = keras.ops.matmul(tf.constant(other), seen)
        assert result.op.type == "Reshape", "the view was not recognised"
        return result

    seen = cache[..., :2, :6].transpose((0, 2, 3, 1) if kind == "key" else (0, 2, 1, 3))
    expected = other @ seen[:, :, np.newaxis]
    assert expected.shape[-1] == slots
    np.testing.assert_allclose(run(product, views), expected, rtol=1e-5, atol=1e-5)


def test_head_major_caches_shared_by_expansion_are_the_plain_product() -> None:
    cache = RANDOM.normal(size=(1, 2, 16, 8)).astype(np.float32)
    other = RANDOM.normal(size=(1, 6, 3, 8)).astype(np.float32)
    tensor = CacheTensor("cache", "key", cache.shape, "bhsd")
    views = CacheViews()

    def product() -> tf.Tensor:
        logical = views.register(tf.constant(cache), tensor)
        shared = keras.ops.repeat(keras.ops.expand_dims(logical, 2), 3, axis=2)
        shared = keras.ops.reshape(shared, (1, 6, 16, 8))
        result = keras.ops.matmul(tf.constant(other), keras.ops.transpose(shared, (0, 1, 3, 2)))
        assert result.op.type == "Reshape", "the view was not recognised"
        return result

    expected = other @ np.repeat(cache, 3, axis=1).transpose(0, 1, 3, 2)
    np.testing.assert_allclose(run(product, views), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("band", [(3, 3), (0, 5), (-1, 2), (40, 0)])
def test_rows_of_a_window_are_those_of_the_whole_mask(band: tuple[int, int]) -> None:
    windows = WindowViews()

    def rows() -> tf.Tensor:
        with windows.band_parts():
            mask = tf.linalg.band_part(keras.ops.ones((40, 40), "bool"), *band)
        result = keras.ops.slice(mask, (tf.constant(7), 0), (5, 40))
        assert result.op.type != "Slice", "the window was not recognised"
        return result

    expected = np.asarray(tf.linalg.band_part(tf.ones((40, 40), tf.bool), *band))[7:12]
    np.testing.assert_array_equal(run(rows, windows), expected)


def test_a_weight_read_in_a_second_order_falls_back_to_its_own_shape() -> None:
    values = RANDOM.normal(size=(8, 8)).astype(np.float32)
    kernel = keras.Variable(values)
    x = RANDOM.normal(size=(1, 3, 8)).astype(np.float32)
    with tf.Graph().as_default():
        weights = WeightViews([("kernel", FloatWeight(kernel))])
        with intercept(weights), weights.scope():
            one = keras.ops.matmul(tf.constant(x), kernel)
            other = keras.ops.einsum("abc,dc->abd", tf.constant(x), kernel)
        (view,) = weights.views
        feeds = {view.matrix: values.T, view.logical: values}
        with tf.compat.v1.Session() as session:
            one, other = session.run([one, other], feeds)
    np.testing.assert_allclose(one, x @ values, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other, x @ values.T, rtol=1e-5, atol=1e-6)


def test_masks_are_added_once_and_leave_masked_rows_finite() -> None:
    scores = RANDOM.normal(size=(1, 2, 3, 5)).astype(np.float32)
    mask = np.tril(np.ones((1, 1, 3, 5), bool), -1)  # the first row is masked throughout
    softmax = keras.layers.Softmax(dtype="float32")
    expected = np.asarray(softmax(scores, mask))
    with additive_masks():
        found = np.asarray(softmax(scores, tf.constant(mask)))
    np.testing.assert_allclose(found[:, :, 1:], expected[:, :, 1:], rtol=1e-6)
    assert np.isfinite(found).all()


def test_one_mask_for_all_rows_is_added_to_the_product_as_it_is() -> None:
    scores = RANDOM.normal(size=(1, 2, 3, 5)).astype(np.float32)
    mask = np.array([True, True, True, False, False])[None, None, None]
    softmax = keras.layers.Softmax(dtype="float32")
    expected = np.asarray(softmax(scores.reshape(1, 6, 1, 5), mask))
    with tf.Graph().as_default(), additive_masks():
        found = softmax(tf.reshape(tf.constant(scores), [1, 6, 1, 5]), tf.constant(mask))
        assert found.op.inputs[0].op.type == "Softmax"
        assert found.op.inputs[0].shape == scores.shape
        with tf.compat.v1.Session() as session:
            np.testing.assert_allclose(session.run(found), expected, rtol=1e-6)


@pytest.mark.parametrize("wiped", [True, False])
def test_wiping_a_row_is_a_product(wiped: bool) -> None:
    x = RANDOM.normal(size=(1, 1, 4, 8)).astype(np.float32)

    def build() -> tf.Tensor:
        values = tf.constant(x)
        condition = tf.constant(np.full((1, 1, 1, 1), wiped))
        result = keras.ops.where(condition, keras.ops.zeros_like(values), values)
        assert result.op.type == "Mul"
        return result

    np.testing.assert_array_equal(run(build, WipedRows()), x * (not wiped))


def test_a_choice_within_rows_stays_one() -> None:
    x = RANDOM.normal(size=(1, 4, 8)).astype(np.float32)

    def build() -> tf.Tensor:
        result = keras.ops.where(tf.constant(x) < 0, keras.ops.zeros_like(x), tf.constant(x))
        assert result.op.type == "SelectV2"
        return result

    np.testing.assert_array_equal(run(build, WipedRows()), np.maximum(x, 0))


@pytest.mark.parametrize("scale", [None, 0.125])
def test_signs_and_scale_of_a_rotation_go_to_cosine_and_sine(scale: float | None) -> None:
    x = RANDOM.normal(size=(1, 2, 3, 8)).astype(np.float32)
    angles = RANDOM.normal(size=(1, 2, 1, 8)).astype(np.float32)
    with tf.Graph().as_default() as graph:
        rows, cos, sin = tf.constant(x), tf.cos(angles), tf.sin(angles)
        one, other = tf.split(rows, 2, axis=-1)
        result = rows * cos + tf.reshape(tf.stack((-other, one), axis=-2), x.shape) * sin
        result = result if scale is None else result * scale
        expected = tf.compat.v1.Session().run(result)
        folded = fold(graph.as_graph_def(add_shapes=True), [result.name])
    assert "Neg" not in {node.op for node in folded.node}
    # Two for each term, one of them on what all layers share.
    assert sum(node.op == "Mul" for node in folded.node) == (3 if scale is None else 5)
    with tf.Graph().as_default():
        (found,) = tf.graph_util.import_graph_def(folded, return_elements=[result.name])
        np.testing.assert_array_equal(tf.compat.v1.Session().run(found), expected)


def test_the_reciprocal_of_a_square_root_is_one_operation() -> None:
    x = RANDOM.uniform(1, 2, size=(3, 4)).astype(np.float32)

    def build() -> tf.Tensor:
        result = keras.ops.reciprocal(keras.ops.sqrt(tf.constant(x)))
        assert result.op.type == "Rsqrt"
        return result

    np.testing.assert_allclose(run(build, NormViews()), 1 / np.sqrt(x), rtol=1e-6)


@pytest.mark.parametrize("center", [True, False])
def test_normalization_is_that_of_keras(center: bool) -> None:
    layer = keras.layers.LayerNormalization(epsilon=1e-5, center=center)
    x = RANDOM.normal(loc=3, size=(2, 7, 16)).astype(np.float32)
    expected = np.asarray(layer(x))
    with intercept(NormViews()):
        np.testing.assert_allclose(np.asarray(layer(x)), expected, rtol=1e-4, atol=1e-5)


def test_everything_is_put_back_after_a_failure() -> None:
    before = (keras.ops.einsum, keras.layers.Softmax.call)
    with pytest.raises(ZeroDivisionError), intercept(CacheViews()), additive_masks():
        raise ZeroDivisionError
    assert (keras.ops.einsum, keras.layers.Softmax.call) == before


def test_the_probe_allocates_nothing_and_leaves_the_model_as_it_was() -> None:
    model = shapes.tiny_llama()
    cache = probe_cache(model, 10_000_000)  # 5 GB, were it made
    assert [tensor.shape for tensor in cache.tensors[:2]] == [
        (1, 2, 10_000_000, 8),
        (1, 2, 8, 10_000_000),
    ]
    assert "call_with_cache" not in vars(model)


@pytest.mark.parametrize("shape", [shapes.tiny_gpt2, shapes.tiny_llama3])
def test_caches_that_no_view_recognises_still_give_the_right_answer(
    shape: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(CacheViews, "intercepted", ())
    path = tmp_path / "m.tflite"
    # The check after conversion compares every step with Keras, and raises where they differ.
    converter = lt.Converter(shape(), quantizer="none", context_length=64, prefill_lengths=(8,))
    converter.convert(path)
    operators = {s.name: s.operators for s in lt.inspect(path).models[0].signatures}["decode"]
    assert operators["TRANSPOSE"] >= 6
    # The stacked cache is gone all the same: what is packed is positions, not layers.
    assert operators["PACK"] <= 4
