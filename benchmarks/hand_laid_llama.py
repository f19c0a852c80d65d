"""A Llama's decode graph, laid by hand."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from .hand_laid_graph import DecodeGraph, Values, normalized, rotated


def lay_llama(graph: DecodeGraph, backbone: Any, values: Values) -> None:
    """Lay all layers of a KerasHub ``LlamaBackbone`` with a tied embedding.

    Args:
        graph: Still without outputs.
        backbone: What the sizes are read from.
        values: Its weights.
    """
    heads, kv_heads = backbone.num_query_heads, backbone.num_key_value_heads
    width, epsilon = backbone.hidden_dim, backbone.layer_norm_epsilon
    size = width // heads
    x = graph.embed(values["token_embedding/embeddings"])
    mask, rotation = graph.mask(), graph.rotation(size, backbone.rope_max_wavelength)
    for i in range(backbone.num_layers):
        layer = f"transformer_layer_{i}"
        attention = f"{layer}/self_attention"
        q, k, v = (
            values[f"{attention}/{name}/kernel"].reshape(width, -1).T
            for name in ("query", "key", "value")
        )
        q = q * size**-0.5  # a power of two here: the same integers with another scale
        h = normalized(x, values[f"{layer}/self_attention_layernorm/scale"], epsilon)
        if graph.arrangement.as_one:
            qkv = tf.reshape(graph.project(h, f"qkv_{i}", q, k, v), [1, -1, 1, size])
            turned = rotated(qkv[:, : heads + kv_heads], rotation)
            query, key = turned[:, :heads], turned[:, heads:]
            value = qkv[:, heads + kv_heads :]
        else:
            query, key = (
                rotated(tf.reshape(graph.project(h, f"{name}_{i}", m), [1, -1, 1, size]), rotation)
                for name, m in (("q", q), ("k", k))
            )
            value = graph.project(h, f"v_{i}", v)
        mixed = graph.attend(
            i,
            tf.reshape(query, [1, kv_heads, heads // kv_heads, size]),
            key,
            tf.reshape(value, [1, kv_heads, size, 1]),
            mask,
        )
        out = values[f"{attention}/attention_output/kernel"].reshape(-1, width).T
        x += graph.project(mixed, f"out_{i}", out)
        h = normalized(x, values[f"{layer}/feedforward_layernorm/scale"], epsilon)
        gate, up, down = (
            values[f"{layer}/feedforward_{name}_dense/kernel"].T
            for name in ("gate", "intermediate", "output")
        )
        gates, ups = graph.gates_and_ups(i, h, gate, up)
        x += graph.project(gates * tf.sigmoid(gates) * ups, f"down_{i}", down)
    graph.logits(normalized(x, values["sequence_output_layernorm/scale"], epsilon))
