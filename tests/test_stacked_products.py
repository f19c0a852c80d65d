"""Products of one activation as one, and what follows them alike: the same numbers, less work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from llm_tflite.flatbuffer.merge import merge
from llm_tflite.flatbuffer.model import operator_name, parse
from llm_tflite.flatbuffer.stacked_products import StackedProducts, alike, stacked
from llm_tflite.flatbuffer.weights import WeightInjector, take_inputs
from llm_tflite.flatbuffer.writer import ModelWriter
from llm_tflite.plugins import load_plugins
from llm_tflite.quantization import QuantizedTensor, Weight, quantize
from llm_tflite.runtime import RuntimeModel
from llm_tflite.tracing.signatures import Signature
from llm_tflite.tracing.skeleton import convert_signature

Tensors = dict[str, tf.Tensor]
Body = Callable[[tf.Tensor, Tensors], Tensors]
WIDTH, HEAD = 64, 16
QUANTIZERS = ["none", "float16", "dynamic_range", "weight_only_int8", "int4", "int4_channel"]


def product(x: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return tf.matmul(x, weight, transpose_b=True)


def heads(x: tf.Tensor) -> tf.Tensor:
    return tf.reshape(x, [1, x.shape[0], -1, HEAD])


def rotated(x: tf.Tensor, cos: tf.Tensor, sin: tf.Tensor) -> tf.Tensor:
    one, other = tf.split(x, 2, axis=-1)
    return x * cos + tf.concat([other, one], -1) * sin


def angles(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    positions = tf.reshape(tf.reduce_sum(x, axis=-1), [1, -1, 1, 1])
    angle = positions * tf.constant(np.geomspace(1, 0.1, HEAD), tf.float32)
    return tf.cos(angle), tf.sin(angle)


def normalized(x: tf.Tensor, scale: float) -> tf.Tensor:
    scales = np.linspace(scale, 2 * scale, HEAD, dtype=np.float32)
    return x * tf.math.rsqrt(tf.reduce_mean(x * x, axis=-1, keepdims=True) + 1e-6) * scales


def attention(x: tf.Tensor, w: Tensors) -> Tensors:
    """As in Gemma 3: two norms, two scales of one rotation, heads of queries beside one of keys."""
    cos, sin = angles(x)
    query, key = (normalized(heads(product(x, w[name])), s) for name, s in (("q", 0.5), ("k", 2.0)))
    return {
        "query": tf.reshape(rotated(query, cos * 0.25, sin * 0.25), [1, -1]),
        "key": tf.reshape(rotated(key, cos, sin), [1, -1]),
        "value": heads(product(x, w["v"])),
    }


def equal_heads(x: tf.Tensor, w: Tensors) -> Tensors:
    """As in a multi-head attention with biases, transposed to heads first."""
    cos, sin = angles(x)
    cos, sin = (tf.transpose(t, [0, 2, 1, 3]) for t in (cos, sin))
    biases = {"q": np.ones(WIDTH, np.float32), "k": np.linspace(-1, 1, WIDTH, dtype=np.float32)}
    turned = {
        name: tf.transpose(heads(tf.nn.bias_add(product(x, w[name]), bias)), [0, 2, 1, 3])
        for name, bias in biases.items()
    }
    return {name: rotated(value, cos, sin) for name, value in turned.items()}


def beside_others(x: tf.Tensor, w: Tensors) -> Tensors:
    """One head each, with something in front of it that is the same for both."""
    cos, sin = angles(x)
    return {
        name: rotated(
            tf.concat([cos, heads(product(x, w[name]))], -1),
            *(tf.tile(t, [1, 1, 1, 2]) for t in (cos, sin)),
        )
        for name in ("q", "k")
    }


def gated(x: tf.Tensor, w: Tensors) -> Tensors:
    return {"y": tf.nn.silu(product(x, w["gate"])) * product(x, w["up"])}


SHAPES = {
    attention: {"q": 4 * HEAD, "k": HEAD, "v": HEAD},
    equal_heads: {"q": WIDTH, "k": WIDTH},
    beside_others: {"q": HEAD, "k": HEAD},
    gated: {"gate": 96, "up": 96},
}


def graphs(body: Body, rows: Mapping[str, int], lengths: tuple[int, ...]) -> Any:
    """A model with a signature for each length."""
    parts = []
    for length in lengths:
        with tf.Graph().as_default() as graph:
            x = tf.compat.v1.placeholder(tf.float32, (length, WIDTH), name="x")
            w = {n: tf.compat.v1.placeholder(tf.float32, (r, WIDTH), n) for n, r in rows.items()}
            outputs = {name: tf.identity(t, name=name) for name, t in body(x, w).items()}
        name = f"read_{length}"
        parts.append(
            convert_signature(Signature(name, graph.as_graph_def(), {"x": x, **w}, outputs))
        )
    return merge(parts)


def tensors_of(rows: Mapping[str, int], quantizer: str) -> dict[str, QuantizedTensor]:
    random, strategy = np.random.default_rng(0), load_plugins().quantizer(quantizer)
    made = {}
    for name, count in rows.items():
        values = random.normal(0, 0.1, (count, WIDTH)).astype(np.float32)
        made[name] = quantize(strategy, Weight(name, "projection", values.shape), values)
    return made


def write(path: Path, model: Any, tensors: Mapping[str, QuantizedTensor], *, stack: bool) -> None:
    sites = take_inputs(model, set(tensors))
    with path.open("w+b") as stream:
        writer = ModelWriter(stream, 1 << 17)
        injector = WeightInjector(model, writer)
        products = StackedProducts(model, sites)
        groups = products.groups(tensors) if stack else [[name] for name in tensors]
        for names in groups:
            for same in alike({name: tensors[name] for name in names}):
                weight = stacked([tensors[name] for name in same])
                injector.place(products.stack(same), weight)
        writer.finish(model)


def run(path: Path, length: int) -> dict[str, np.ndarray[Any, Any]]:
    x = np.random.default_rng(1).normal(0, 1, (length, WIDTH)).astype(np.float32)
    model = RuntimeModel(str(path), threads=1)
    try:
        return model.call(f"read_{length}", {"x": x})
    finally:
        model.close()


def operators(path: Path, length: int) -> Counter[str]:
    model = parse(path.read_bytes())
    (at,) = [s for s in model.signatureDefs if s.signatureKey.decode() == f"read_{length}"]
    graph = model.subgraphs[at.subgraphIndex]
    return Counter(operator_name(model, operator) for operator in graph.operators)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("body", SHAPES, ids=lambda body: body.__name__)
def test_results_are_the_same_to_the_last_bit(body: Body, quantizer: str, tmp_path: Path) -> None:
    rows = SHAPES[body]
    for name, stack in (("apart", False), ("one", True)):
        model = graphs(body, rows, (1, 5))
        write(tmp_path / name, model, tensors_of(rows, quantizer), stack=stack)
    for length in (1, 5):
        expected, found = run(tmp_path / "apart", length), run(tmp_path / "one", length)
        assert expected.keys() == found.keys()
        for output in expected:
            assert np.ptp(expected[output]) > 0.1
            np.testing.assert_array_equal(found[output], expected[output])
        counts = operators(tmp_path / "one", length)
        assert counts["FULLY_CONNECTED"] == 1
        assert operators(tmp_path / "apart", length)["FULLY_CONNECTED"] == len(rows)


def test_queries_and_keys_are_normalized_and_rotated_together(tmp_path: Path) -> None:
    rows = SHAPES[attention]
    for name, stack in (("apart", False), ("one", True)):
        model = graphs(attention, rows, (5,))
        write(tmp_path / name, model, tensors_of(rows, "none"), stack=stack)
    apart, one = operators(tmp_path / "apart", 5), operators(tmp_path / "one", 5)
    assert (apart["MEAN"], one["MEAN"]) == (2, 1)
    assert (apart["CONCATENATION"], one["CONCATENATION"]) == (2, 1)
    assert sum(one.values()) < sum(apart.values()) - 5


def test_products_of_other_activations_stay_apart(tmp_path: Path) -> None:
    def body(x: tf.Tensor, w: Tensors) -> Tensors:
        return {"y": product(x, w["a"]) + product(tf.nn.relu(x), w["b"])}

    rows = {"a": 32, "b": 32}
    model = graphs(body, rows, (1,))
    assert StackedProducts(model, take_inputs(model, set(rows))).groups(rows) == [["a"], ["b"]]


def test_a_matrix_that_is_read_in_another_way_stays_apart() -> None:
    def body(x: tf.Tensor, w: Tensors) -> Tensors:
        return {"y": product(x, w["a"]) + product(x, w["b"]), "row": tf.gather(w["b"], [3])}

    rows = {"a": 32, "b": 32, "c": 32}
    model = graphs(lambda x, w: body(x, w) | {"c": product(x, w["c"])}, rows, (1,))
    assert StackedProducts(model, take_inputs(model, set(rows))).groups(rows) == [["a", "c"], ["b"]]


def test_products_that_are_together_in_one_graph_only_stay_apart() -> None:
    def body(x: tf.Tensor, w: Tensors) -> Tensors:
        other = x if x.shape[0] == 1 else tf.nn.relu(x)
        return {"y": product(x, w["a"]) + product(other, w["b"])}

    rows = {"a": 32, "b": 32}
    model = graphs(body, rows, (1, 5))
    assert StackedProducts(model, take_inputs(model, set(rows))).groups(rows) == [["a"], ["b"]]


def test_only_equal_forms_are_stacked() -> None:
    four = tensors_of({"a": 32, "b": 32}, "int4")
    eight = tensors_of({"c": 32, "d": 16}, "dynamic_range")
    mixed = {"a": four["a"], "c": eight["c"], "b": four["b"], "d": eight["d"]}
    assert alike(mixed) == [["a", "b"], ["c", "d"]]
    one = stacked([eight["c"], eight["d"]])
    np.testing.assert_array_equal(
        one.dequantize(), np.concatenate([eight["c"].dequantize(), eight["d"].dequantize()])
    )
    odd = QuantizedTensor(np.zeros((3, 5), np.int8), 4, np.ones(3, np.float32))
    assert alike({"odd": odd, "other": odd}) == [["odd"], ["other"]]
