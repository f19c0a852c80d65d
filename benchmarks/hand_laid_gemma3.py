"""A Gemma 3's decode graph, laid by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from .hand_laid_graph import DecodeGraph, Values, normalized, rotated


def lay_gemma3(graph: DecodeGraph, backbone: Any, values: Values) -> None:
    """Lay all layers of a KerasHub ``Gemma3Backbone`` for text.

    Args:
        graph: Still without outputs.
        backbone: What the sizes are read from.
        values: Its weights.
    """
    heads, kv_heads = backbone.num_query_heads, backbone.num_key_value_heads
    size, width, epsilon = backbone.head_dim, backbone.hidden_dim, backbone.layer_norm_epsilon
    x = graph.embed(values["token_embedding/embeddings"]) * np.float32(width**0.5)
    near = graph.mask(backbone.sliding_window_size), graph.rotation(size, 10_000.0)
    far = graph.mask(), graph.rotation(size, 1_000_000.0)

    def norm(x: tf.Tensor, path: str) -> tf.Tensor:
        return normalized(x, 1 + values[f"{path}/scale"], epsilon)

    for i in range(backbone.num_layers):
        layer = f"decoder_block_{i}"
        attention = f"{layer}/attention"
        mask, rotation = near if backbone.use_sliding_window_attention and i % 6 < 5 else far
        q, k, v = (
            values[f"{attention}/{name}/kernel"].swapaxes(1, 2).reshape(-1, width)
            for name in ("query", "key", "value")
        )
        scales = [
            (1 + values[f"{attention}/query_norm/scale"]) * np.float32(size**-0.5),
            1 + values[f"{attention}/key_norm/scale"],
        ]
        h = norm(x, f"{layer}/pre_attention_norm")
        if graph.arrangement.as_one:
            qkv = tf.reshape(graph.project(h, f"qkv_{i}", q, k, v), [1, -1, 1, size])
            each = np.repeat(scales, (heads, kv_heads), axis=0)[:, np.newaxis]
            turned = rotated(normalized(qkv[:, : heads + kv_heads], each, epsilon), rotation)
            query, key = turned[:, :heads], turned[:, heads:]
            value = qkv[:, heads + kv_heads :]
        else:
            query, key = (
                rotated(
                    normalized(
                        tf.reshape(graph.project(h, f"{name}_{i}", m), [1, -1, 1, size]),
                        scale,
                        epsilon,
                    ),
                    rotation,
                )
                for name, m, scale in zip("qk", (q, k), scales, strict=True)
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
        x += norm(graph.project(mixed, f"out_{i}", out), f"{layer}/post_attention_norm")
        h = norm(x, f"{layer}/pre_ffw_norm")
        gate, up, down = (
            values[f"{layer}/{name}/kernel"].T
            for name in ("ffw_gating", "ffw_gating_2", "ffw_linear")
        )
        gates, ups = graph.gates_and_ups(i, h, gate, up)
        product = graph.project(tf.nn.gelu(gates, approximate=True) * ups, f"down_{i}", down)
        x += norm(product, f"{layer}/post_ffw_norm")
    graph.logits(norm(x, "final_normalization"))
