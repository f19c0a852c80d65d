"""Keys and values in float16 and int8: what the types mean, and files that keep them so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import recurrent_models
import tensorflow as tf
from official_engine import official_texts

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.artifact import Artifact
from llm_tflite.cache_types import CACHE_TYPES, cache_values, check_cache_type, size_axis
from llm_tflite.conversion.agreement import CACHE_TOLERANCES, compare_caches, compare_logits
from llm_tflite.decoding import DecodingState
from llm_tflite.demo.shapes import tiny_llama
from llm_tflite.runtime import RuntimeModel
from llm_tflite.tracing.cache_usage import learn_cache
from llm_tflite.tracing.cache_views import CacheViews
from llm_tflite.tracing.probe import CacheTensor
from llm_tflite.tracing.stored_caches import decoded, encoded, product

CONTEXT = 600
SHORT = 256  # the size that a converter makes
ROUNDED = ("float16", "int8")
# Of a value, by its type: half a step of float16; half a step of the coarsest scale of int8, which
# is 2 ** (1 / 8) times the largest magnitude by 127.
HALF_STEP = {"float16": 2.0**-11, "int8": 2.0 ** (1 / 8) / 127 / 2}


# --- the form -----------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [2, 3])
@pytest.mark.parametrize("dtype", ROUNDED)
@pytest.mark.parametrize("magnitude", [1e-3, 1.0, 1e4])
def test_a_value_moves_by_half_a_step_at_most(dtype: Any, axis: int, magnitude: float) -> None:
    values = np.random.default_rng(0).normal(size=(1, 3, 16, 20)).astype(np.float32) * magnitude
    stored = encoded(tf.constant(values), dtype, axis).numpy()
    assert stored.dtype.name == dtype
    read = cache_values(stored, dtype, axis)
    np.testing.assert_allclose(decoded(tf.constant(stored), dtype, axis), read, rtol=1e-5)
    largest = np.abs(values).max(axis=axis, keepdims=True)
    assert (np.abs(read - values) <= HALF_STEP[dtype] * largest * 1.001).all()


def test_each_head_and_token_has_a_scale_of_its_own() -> None:
    values = np.ones((1, 2, 3, 4), np.float32) * np.array([1e-3, 1, 1e3], np.float32)[:, None]
    read = cache_values(encoded(tf.constant(values), "int8", 3).numpy(), "int8", 3)
    np.testing.assert_allclose(read, values, rtol=0.005)


def test_zeros_and_memory_full_of_zeros_stand_for_zeros() -> None:
    stored = encoded(tf.zeros([1, 1, 2, 4]), "int8", 3).numpy()
    assert stored.shape == (1, 1, 2, 5)
    assert not cache_values(stored, "int8", 3).any()
    assert not cache_values(np.zeros_like(stored), "int8", 3).any()


def test_what_is_too_large_for_int8_becomes_the_largest_number_of_its_sign() -> None:
    values = tf.constant([[[[1e9, -1e9, 0.0, 1.0]]]])
    read = cache_values(encoded(values, "int8", 3).numpy(), "int8", 3)
    np.testing.assert_allclose(read[0, 0, 0], [59_627, -59_627, 0, 0], rtol=1e-3)


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize(("axis", "last"), [(3, True), (3, False), (2, True), (2, False)])
@pytest.mark.parametrize("dtype", CACHE_TYPES)
def test_a_product_is_that_of_the_numbers_a_cache_stands_for(
    dtype: Any, axis: int, last: bool, rows: int
) -> None:
    random = np.random.default_rng(1)
    stored = encoded(tf.constant(random.normal(size=(1, 2, 6, 10)), tf.float32), dtype, axis)
    numbers = cache_values(stored.numpy(), dtype, axis)
    numbers = numbers.swapaxes(2, 3) if last else numbers
    left = random.normal(size=(1, 2, rows, numbers.shape[2])).astype(np.float32)
    found = product(tf.constant(left), stored, dtype, axis=axis, last=last)
    np.testing.assert_allclose(found, left @ numbers, rtol=1e-4, atol=1e-5)


def test_the_axis_of_a_heads_numbers_is_the_one_without_slots() -> None:
    assert (size_axis((1, 2, 600, 9), 2), size_axis((1, 2, 9, 600), 3)) == (3, 2)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["int4", "bfloat16", "", None, 8])
def test_another_type_is_refused(value: object) -> None:
    with pytest.raises(errors.InvalidOptionError, match="float32, float16, int8"):
        check_cache_type(value)


def test_a_converter_refuses_another_type_and_other_layouts_refuse_the_option() -> None:
    with pytest.raises(errors.InvalidOptionError, match="got 'int4'"):
        lt.Converter(tiny_llama(), cache_dtype="int4")
    for layout in ("generate", "forward"):
        with pytest.raises(errors.InvalidOptionError, match="belongs to prefill_decode"):
            lt.Converter(tiny_llama(), layout=layout, cache_dtype="int8")


def test_a_model_of_states_alone_has_nothing_to_round() -> None:
    with pytest.raises(errors.InvalidOptionError, match="leave cache_dtype='int8' out"):
        learn_cache(recurrent_models.rwkv7(), 32, "int8")


@pytest.mark.parametrize("size", [8, 6])
def test_a_cache_whose_heads_are_not_written_whole_cannot_be_int8(size: int) -> None:
    """A head of a token has one scale, and what was rounded is not rounded again."""
    tensor = CacheTensor("kv_cache_k_0", "key", (1, 16, 2, 8), dtype="int8")
    views = CacheViews()
    with tf.Graph().as_default():
        stored = tf.compat.v1.placeholder(tf.int8, tensor.shape)
        logical = views.register(stored, tensor)
        refused = pytest.raises(errors.UnsupportedModelError, match="kv_cache_k_0")
        if size < 8:
            with refused:
                views.slice_update(None, logical, [0, 3, 0, 0], tf.zeros([1, 1, 2, size]))
        else:
            with refused:
                views.stored(logical + 1.0, tensor)


def test_no_form_of_a_cache_hides_a_wrong_one() -> None:
    logits = np.random.default_rng(0).normal(size=(4, 50)).astype(np.float32)
    for dtype in CACHE_TYPES:
        tolerance = CACHE_TOLERANCES[dtype]
        near, far = logits.copy(), logits.copy()
        near[2, 7] += tolerance * np.ptp(logits) * 0.9
        far[2, 7] += tolerance * np.ptp(logits) * 1.2
        compare_logits("Keras", logits, near, True, tolerance)
        compare_caches(("a", "b"), {"k": logits}, {"k": near}, True, tolerance)
        with pytest.raises(errors.DisagreementError):
            compare_logits("Keras", logits, far, True, tolerance)
        with pytest.raises(errors.DisagreementError):
            compare_caches(("a", "b"), {"k": logits}, {"k": far}, True, tolerance)


# --- files --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def llama() -> Any:
    return tiny_llama()


@pytest.fixture(scope="module", params=ROUNDED)
def path(llama: Any, request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("cache_types") / f"{request.param}.litertlm"
    converter = lt.Converter(
        llama,
        quantizer="none",
        context_length=CONTEXT,
        prefill_lengths=(8, 32),
        cache_dtype=request.param,
    )
    converter.convert(target)
    return target


def test_the_manifest_and_an_inspection_name_the_type(path: Path) -> None:
    dtype = path.stem
    manifest = Artifact.open(path).manifest
    assert {buffer.dtype for buffer in manifest.cache} == {dtype}
    # Three layers, keys and values, two heads of eight numbers.
    numbers = 3 * 2 * 2 * CONTEXT
    each = {"float16": 8 * 2, "int8": 8 + 1}[dtype]
    assert manifest.cache_bytes == numbers * each
    assert f"{manifest.cache_bytes:,} bytes of {dtype}" in str(lt.inspect(path))


def test_every_graph_takes_and_gives_caches_of_the_type(path: Path) -> None:
    (model,) = lt.inspect(path).models
    assert len(model.signatures) == 3 + 3 + 2
    for signature in model.signatures:
        for tensor in (*signature.inputs, *signature.outputs):
            if tensor.name.startswith("kv_cache"):
                assert tensor.dtype == path.stem


def test_the_check_says_how_far_it_is_from_keras(path: Path) -> None:
    check: Any = Artifact.open(path).manifest.check
    greedy = check["greedy"]
    share = greedy["max_logit_difference"] / greedy["logit_range"]
    assert 1e-6 < share < CACHE_TOLERANCES[path.stem], "it was rounded, and no more than that"
    assert share < {"float16": 0.01, "int8": 0.1}[path.stem]
    assert greedy["equal_tokens"] >= greedy["tokens"] - 1


def keras_logits(model: Any, tokens: list[int]) -> Any:
    ids = np.array([tokens], np.int32)
    return np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))[0]


@pytest.mark.parametrize("length", [5, SHORT - 1, SHORT, SHORT + 1, 513, CONTEXT - 4])
def test_an_answer_is_that_of_keras_in_every_size_of_cache(
    llama: Any, path: Path, length: int
) -> None:
    """Tokens differ at most where Keras itself has a second one nearly as good."""
    prompt = np.random.default_rng(length).integers(0, 160, length).tolist()
    with lt.Interpreter(path, threads=1) as interpreter:
        answer = interpreter.generate(prompt, max_new_tokens=4, context_window=CONTEXT)
    logits = keras_logits(llama, [*prompt, *answer.token_ids])[length - 1 : -1]
    chosen = np.take_along_axis(logits, np.array(answer.token_ids)[:, None], axis=-1)[:, 0]
    near = {"float16": 0.005, "int8": 0.05}[path.stem] * np.ptp(logits)
    assert (logits.max(axis=-1) - chosen <= near).all()


def test_a_text_that_outgrows_a_short_cache_goes_on_as_in_a_large_one(path: Path) -> None:
    tokens = np.random.default_rng(3).integers(0, 160, SHORT + 6).tolist()
    artifact = Artifact.open(path)
    runtime = RuntimeModel(artifact.read_model(), threads=1)
    growing, whole = (DecodingState(runtime, artifact.manifest) for _ in range(2))
    whole.sizes = (CONTEXT,)
    for state in (growing, whole):
        state.read(tokens[: SHORT - 3])
    for token in tokens[SHORT - 3 :]:
        found, expected = growing.decode(token), whole.decode(token)
        assert np.abs(found - expected).max() <= 1e-3 * np.ptp(expected)
    for cache in artifact.manifest.cache:
        there, here = whole.filled(cache), growing.filled(cache)
        assert there.dtype == here.dtype == np.float32
        assert there[..., :1].any()
        assert np.abs(here - there).max() <= 0.02 * np.ptp(there)
    del growing, whole
    runtime.close()


def test_states_stay_float32_beside_rounded_keys_and_values(tmp_path: Path) -> None:
    model = recurrent_models.qwen3_5()
    converter = lt.Converter(
        model, quantizer="none", context_length=32, prefill_lengths=(4,), cache_dtype="int8"
    )
    artifact = converter.convert(tmp_path / "qwen.tflite")
    types = {buffer.name[:11]: buffer.dtype for buffer in artifact.manifest.cache}
    assert types == {"kv_cache_k_": "int8", "kv_cache_v_": "int8", "kv_cache_c_": "float32"}
    with lt.Interpreter(artifact.path, threads=1) as interpreter:
        answer = interpreter.generate([5, 6, 7], max_new_tokens=6)
    assert len(answer.token_ids) == 6


@pytest.mark.parametrize("dtype", ROUNDED)
def test_the_official_engine_writes_the_same(gpt2: Any, tmp_path: Path, dtype: str) -> None:
    pytest.importorskip("litert_lm", reason="the official runtime is not installed")
    target, prompt = tmp_path / "gpt2.litertlm", "Hello world, I am"
    lt.Converter(
        gpt2, quantizer="none", context_length=64, prefill_lengths=(4, 16), cache_dtype=dtype
    ).convert(target)
    with lt.Interpreter(target, threads=1) as interpreter:
        expected = interpreter.generate(prompt, max_new_tokens=64)
    first, second = official_texts(target, [prompt, prompt], 64)
    assert first == second
    assert len(first.split()) > 5
    assert expected.text.startswith(first)
