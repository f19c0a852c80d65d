"""How a cache's tensors are told apart, and lists of tensors that a trace leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from llm_tflite import errors
from llm_tflite.tracing.cached_call import cached_call
from llm_tflite.tracing.probe import probe_cache
from llm_tflite.tracing.tensor_lists import pack_lists

CONTEXT = 24


class Recorder:
    """The part of a causal language model that is asked for its cache."""

    class backbone:  # noqa: N801 - as KerasHub names it
        num_layers = 3

    def __init__(self, cache: Callable[[], Any], wanted: str = "token_ids") -> None:
        self._cache = cache
        self._wanted = wanted

    def call_with_cache(self, token_ids: Any, cache: Any) -> None:
        raise AssertionError("only the cache was to be learned")

    def generate_step(self, inputs: dict[str, Any]) -> None:
        self.call_with_cache(inputs[self._wanted], self._cache())


def learned(*shapes: tuple[int, ...], dtype: tf.DType = tf.float32) -> Any:
    return probe_cache(Recorder(lambda: [tf.zeros(shape, dtype) for shape in shapes]), CONTEXT)


def test_stacks_of_keys_and_values_are_told_from_states_by_their_slots() -> None:
    cache = learned((1, 3, 2, CONTEXT, 4, 8), (1, 3, 6, CONTEXT), (1, 5, 3))
    shapes = {tensor.name: tensor.shape for tensor in cache.tensors}
    keys = {f"kv_cache_k_{i}": (1, 4, CONTEXT, 8) for i in range(3)}
    values = {f"kv_cache_v_{i}": (1, 4, 8, CONTEXT) for i in range(3)}
    # The last one has no axis of three layers, and is carried as it is.
    states = {f"kv_cache_c_{2 * i}": (1, 6, CONTEXT) for i in range(3)} | {
        "kv_cache_c_7": (1, 5, 3)
    }
    assert shapes == keys | values | states
    assert cache.exact_prefill
    short = {tensor.name: tensor.shape for tensor in cache.with_slots(8).tensors}
    assert short["kv_cache_k_2"] == (1, 4, 8, 8)
    assert {name: short[name] for name in states} == states


def test_a_cache_is_packed_and_unpacked_without_a_change() -> None:
    cache = learned((1, 3, 2, CONTEXT, 4, 8), (1, 3, 6, 5), (1, 5, 3))
    random = np.random.default_rng(0)
    tensors = {
        tensor.name: tf.constant(
            random.normal(size=getattr(tensor, "logical_shape", tensor.shape)), tf.float32
        )
        for tensor in cache.tensors
    }
    packed = cache.pack(tensors)
    assert isinstance(packed, list)
    assert [tuple(x.shape) for x in packed] == [(1, 3, 2, CONTEXT, 4, 8), (1, 3, 6, 5), (1, 5, 3)]
    unpacked = cache.unpack(packed)
    assert unpacked.keys() == tensors.keys()
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(unpacked[name], tensor)


def test_states_that_are_no_float32_are_refused() -> None:
    with pytest.raises(errors.UnsupportedModelError, match=r"int32\[1, 3, 6\]"):
        learned((1, 3, 6), dtype=tf.int32)


@pytest.mark.parametrize("name", ["predict_token_ids", "input_padding_mask"])
def test_further_ids_and_masks_of_a_text_are_given(name: str) -> None:
    model = Recorder(lambda: [tf.zeros((1, 3, 6))], wanted=name)
    assert [tensor.name for tensor in probe_cache(model, CONTEXT).tensors] == [
        f"kv_cache_c_{i}" for i in range(3)
    ]


def test_a_model_that_reads_more_than_a_text_is_refused() -> None:
    model = Recorder(lambda: [tf.zeros((1, 3, 6))], wanted="images")
    with pytest.raises(errors.UnsupportedModelError, match="'images'"):
        probe_cache(model, CONTEXT)


def required(token_ids: Any, cache: Any, where: Any) -> Any:
    return where, None, cache


def optional(token_ids: Any, cache: Any, cache_update_index: Any = 0) -> Any:
    return cache_update_index, None, cache


def anything(*args: Any) -> Any:
    return args[2], None, args[1]


def masked(token_ids: Any, cache: Any, compute_head: Any = None, padding_mask: Any = None) -> Any:
    assert compute_head is None
    return padding_mask, None, cache


def plain(token_ids: Any, cache: Any) -> Any:
    return None, None, cache


@pytest.mark.parametrize(
    ("function", "expected"),
    [
        (required, 7),
        (optional, 7),
        (anything, 7),
        (masked, [[1, 1, 1]]),
        (plain, None),
    ],
)
def test_a_model_is_called_as_its_own_signature_says(
    function: Callable[..., Any], expected: Any
) -> None:
    class Model:
        call_with_cache = staticmethod(function)

    given, cache = cached_call(Model(), tf.constant([[0, 5, 0]]), "cache", tf.constant(7))
    assert cache == "cache"
    assert (None if given is None else given.numpy().tolist()) == expected


def list_graph(write: Callable[[tf.TensorArray, tf.Tensor], tf.TensorArray]) -> tuple[Any, str]:
    """A graph that writes rows of ``x`` float32 ``[3, 2]`` into a list, and its stack."""
    with tf.Graph().as_default() as graph:
        x = tf.compat.v1.placeholder(tf.float32, (3, 2), name="x")
        stack = write(tf.TensorArray(tf.float32, size=3), x).stack()
        packed = graph.as_graph_def(add_shapes=True)
    pack_lists(packed)
    return packed, stack.name


def test_a_list_that_was_written_at_constant_places_becomes_one_operation() -> None:
    def write(array: tf.TensorArray, x: tf.Tensor) -> tf.TensorArray:
        for place, row in ((2, 0), (0, 1), (1, 2)):
            array = array.write(place, x[row] * 2)
        return array

    packed, stack = list_graph(write)
    values = np.arange(6, dtype=np.float32).reshape(3, 2)
    with tf.Graph().as_default():
        (result,) = tf.graph_util.import_graph_def(packed, return_elements=[stack], name="")
        assert result.op.type == "Pack"
        with tf.compat.v1.Session() as session:
            found = session.run(result, {"x:0": values})
    np.testing.assert_array_equal(found, values[[1, 2, 0]] * 2)


def test_other_lists_are_left_as_they_are() -> None:
    def one_missing(array: tf.TensorArray, x: tf.Tensor) -> tf.TensorArray:
        return array.write(0, x[0]).write(2, x[2])

    def computed_place(array: tf.TensorArray, x: tf.Tensor) -> tf.TensorArray:
        for place in range(3):
            array = array.write(tf.cast(x[place, 0], tf.int32), x[place])
        return array

    for write in (one_missing, computed_place):
        packed, stack = list_graph(write)
        nodes = {node.name: node for node in packed.node}
        assert nodes[stack.split(":")[0]].op == "TensorListStack"
