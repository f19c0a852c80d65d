"""A real language model of one layer as a ``.tflite`` core: signatures, caches, weights outside.

Written in plain TensorFlow, so that containers can be tested without the converter.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

WIDTH, HEADS, CONTEXT = 16, 2, 32
HEAD = WIDTH // HEADS
CACHE = {
    "kv_cache_k_0": (1, HEADS, CONTEXT, HEAD),
    "kv_cache_v_0": (1, HEADS, HEAD, CONTEXT),
}
HEAD_CAPACITY = 32768


def write_core(path: Path, vocabulary: int) -> None:
    """Write the model in the form in which artifacts carry it."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    from llm_tflite.bundle.tflite_metadata import reserve_metadata

    data = plain_model(vocabulary, path.with_suffix(".saved"))
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    reserve_metadata(model)
    weights = b""
    for buffer in model.buffers:
        if buffer.data is not None and len(buffer.data) > 1024:
            buffer.offset, buffer.size = HEAD_CAPACITY + len(weights), len(buffer.data)
            weights += np.asarray(buffer.data, np.uint8).tobytes()
            weights += bytes(-len(weights) % 16)
            buffer.data = None
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), b"TFL3")
    head = bytes(builder.Output())
    assert len(head) < HEAD_CAPACITY
    assert len(weights) > vocabulary * WIDTH * 4
    path.write_bytes(head.ljust(HEAD_CAPACITY, b"\0") + weights)


def plain_model(vocabulary: int, folder: Path) -> bytes:
    """Convert the model as TensorFlow does it, with the weights inside."""
    import tensorflow as tf
    from tensorflow.compiler.tf2xla.python import xla

    rng = np.random.default_rng(0)
    table = tf.constant(rng.standard_normal((vocabulary, WIDTH)).astype(np.float32) / 2)
    projection = tf.constant(rng.standard_normal((3 * WIDTH, WIDTH)).astype(np.float32) / 2)

    def heads(x: Any, order: list[int]) -> Any:
        return tf.transpose(tf.reshape(x, [1, -1, HEADS, HEAD]), order)

    def step(tokens: Any, input_pos: Any, kv_cache_k_0: Any, kv_cache_v_0: Any) -> Any:
        zero, start = tf.zeros([], tf.int32), input_pos[0]
        hidden = tf.gather(table, tokens[0])
        q, k, v = tf.split(tf.matmul(hidden, projection, transpose_b=True), 3, axis=-1)
        q, k, v = heads(q, [0, 2, 1, 3]), heads(k, [0, 2, 1, 3]), heads(v, [0, 2, 3, 1])
        keys = xla.dynamic_update_slice(kv_cache_k_0, k, tf.stack([zero, zero, start, zero]))
        values = xla.dynamic_update_slice(kv_cache_v_0, v, tf.stack([zero, zero, zero, start]))
        outputs = {"kv_cache_k_0": keys, "kv_cache_v_0": values}
        if tokens.shape[1] == 1:
            seen = tf.range(CONTEXT)[None, :] <= input_pos[:, None]
            scores = tf.matmul(q * HEAD**-0.5, keys, transpose_b=True)
            weights = tf.nn.softmax(scores + tf.where(seen, 0.0, -1e9)[None, None])
            mixed = tf.matmul(weights, values, transpose_b=True)
            mixed = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [1, WIDTH])
            outputs["logits"] = tf.matmul(hidden + mixed, table, transpose_b=True)[None]
        return outputs

    module, signatures = tf.Module(), {}
    module.functions = []
    for name, length in (("prefill_8", 8), ("decode", 1)):
        function = tf.function(step, autograph=False)
        module.functions.append(function)
        signatures[name] = function.get_concrete_function(
            tf.TensorSpec([1, length], tf.int32, name="tokens"),
            tf.TensorSpec([length], tf.int32, name="input_pos"),
            **{n: tf.TensorSpec(shape, tf.float32, name=n) for n, shape in CACHE.items()},
        )
    tf.saved_model.save(module, str(folder), signatures=signatures)
    converter = tf.lite.TFLiteConverter.from_saved_model(
        str(folder), signature_keys=list(signatures)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    return bytes(converter.convert())


def greedy(model: Any, prompt: list[int], count: int, vocabulary: int) -> list[int]:
    """Choose the likeliest tokens with a ``CompiledModel``, one decode step at a time."""
    inputs = {
        name: model.create_input_buffer_by_name("decode", name)
        for name in ("tokens", "input_pos", *CACHE)
    }
    logits = model.create_output_buffer_by_name("decode", "logits")
    outputs = {"logits": logits} | {name: inputs[name] for name in CACHE}
    for name, shape in CACHE.items():
        inputs[name].write(np.zeros(shape, np.float32))
    tokens = list(prompt)
    for position in range(len(prompt) + count - 1):
        inputs["tokens"].write(np.array([[tokens[position]]], np.int32))
        inputs["input_pos"].write(np.array([position], np.int32))
        model.run_by_name("decode", inputs, outputs)
        if position >= len(prompt) - 1:
            tokens.append(int(np.argmax(logits.read(vocabulary, np.float32))))
    return tokens[len(prompt) :]
