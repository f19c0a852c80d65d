"""The families of KerasHub 0.32, each small enough to be converted within seconds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .family import CONTEXT, WIDTH, Family

_LAYERS = {"num_layers": 3, "hidden_dim": WIDTH, "intermediate_dim": 64}
_SHARED_HEADS = {"num_query_heads": 4, "num_key_value_heads": 2}
_PLAIN = {**_LAYERS, "num_heads": 4}
_GROUPED = {**_LAYERS, **_SHARED_HEADS}
# Short, so that a small text already leaves it.
_WINDOW = 6
# Layers whose outputs are normed are no louder for a gain; the embedding must be quieter.
_NORMED_SPREAD = 0.1
_EXPERTS = {"num_experts": 4, "top_k": 2}

_GEMMA2: Mapping[str, Any] = {
    **_GROUPED,
    "head_dim": 8,
    "use_post_ffw_norm": True,
    "use_post_attention_norm": True,
    "use_sliding_window_attention": True,
    "sliding_window_size": _WINDOW,
}
_GEMMA3N: Mapping[str, Any] = {
    "text_hidden_size": WIDTH,
    "num_hidden_layers": 4,
    "pad_token_id": 0,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "intermediate_size": [64] * 4,
    "hidden_activation": "gelu_approximate",
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    "sliding_window": _WINDOW,
    "rope_theta": 10_000.0,
    "max_position_embeddings": CONTEXT,
    "hidden_size_per_layer_input": 8,
    "altup_num_inputs": 2,
    "laurel_rank": 4,
    "activation_sparsity_pattern": [0.5, 0.5, 0.0, 0.0],
    # Behind every vocabulary here: these models read text alone.
    "image_token_id": 60_000,
    "audio_token_id": 60_001,
    "vision_vocab_offset": 60_002,
    "audio_vocab_offset": 60_130,
    "final_logit_soft_cap": 30.0,
}
_GEMMA4: Mapping[str, Any] = {
    **_GROUPED,
    "num_layers": 6,
    "head_dim": 8,
    "image_size": 16,
    "use_sliding_window_attention": True,
    "sliding_window_size": _WINDOW,
    "vision_encoder": None,
    "final_logit_soft_cap": None,
    "global_head_dim": 16,
    "global_rope_partial_rotary_factor": 0.25,
}
_DELTA_NET: Mapping[str, Any] = {
    "num_layers": 4,
    "hidden_dim": WIDTH,
    **_SHARED_HEADS,
    "head_dim": 8,
    "layer_types": ["linear_attention"] * 3 + ["full_attention"],
    "partial_rotary_factor": 0.25,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_conv_kernel_dim": 4,
}


def _named(name: str, special: str, config: Mapping[str, Any], **others: Any) -> Family:
    return Family(f"{name}CausalLM", f"{name}Backbone", special, config, **others)


def _gemma4(special: str, **config: Any) -> Family:
    sizes: tuple[str, ...] = ("vocabulary_size",)
    if "hidden_size_per_layer_input" in config:
        sizes += ("vocab_size_per_layer_input",)
    return _named(
        "Gemma4",
        f"two sizes of heads, norms of queries, keys and values{special}",
        {**_GEMMA4, **config},
        vocabulary="sentencepiece",
        spread=_NORMED_SPREAD,
        sizes=sizes,
        options={"final_logit_cap": 30.0},
    )


def _gemma3n(special: str, shared: int) -> Family:
    return _named(
        "Gemma3n",
        f"alternating updates, inputs per layer, sparse activations{special}",
        {**_GEMMA3N, "num_kv_shared_layers": shared},
        vocabulary="sentencepiece",
        gain=8.0,
        spread=0.5 * _NORMED_SPREAD,
        sizes=("text_vocab_size", "vocab_size_per_layer_input"),
    )


FAMILIES: Mapping[str, Family] = {
    "gpt2": _named("GPT2", "learned positions", {**_PLAIN, "max_sequence_length": CONTEXT}),
    "opt": _named("OPT", "learned positions, ReLU", {**_PLAIN, "max_sequence_length": CONTEXT}),
    # With ALiBi and nothing else to tell positions apart, answers soon turn in circles.
    "bloom": _named(
        "Bloom",
        "ALiBi, a norm behind the embedding",
        _PLAIN,
        louder={
            "query_dense": 0.8,
            "key_dense": 0.8,
            "value_dense": 2.0,
            "attention/output_dense": 2.0,
        },
    ),
    "falcon": _named(
        "Falcon",
        "ALiBi",
        {**_LAYERS, "num_attention_heads": 4},
        louder={
            "query_dense": 1.2,
            "key_dense": 1.2,
            "value_dense": 1.5,
            "attention/output_dense": 1.5,
        },
    ),
    "gpt_neo_x": _named(
        "GPTNeoX",
        "partial rotary embedding, parallel residual",
        {**_PLAIN, "max_sequence_length": CONTEXT},
    ),
    "llama": _named(
        "Llama",
        "rotary embedding, shared heads, SwiGLU",
        _GROUPED,
        vocabulary="sentencepiece",
    ),
    "llama3": _named(
        "Llama3",
        "adjusted rotary frequencies, tied embedding",
        {
            **_GROUPED,
            "rope_frequency_adjustment_factor": 8.0,
            "rope_low_freq_factor": 1.0,
            "rope_high_freq_factor": 4.0,
            "rope_pretraining_sequence_length": 32,
            "tie_word_embeddings": True,
        },
    ),
    "mistral": _named(
        "Mistral",
        "sliding window",
        {**_GROUPED, "sliding_window": _WINDOW},
        vocabulary="sentencepiece",
    ),
    "mixtral": _named(
        "Mixtral",
        "mixture of experts, sliding window",
        {**_GROUPED, "num_experts": 4, "sliding_window": _WINDOW},
        vocabulary="sentencepiece",
    ),
    "qwen": _named(
        "Qwen",
        "biases of queries, keys, values",
        {**_GROUPED, "use_sliding_window_attention": False},
    ),
    "qwen_moe": _named(
        "QwenMoe",
        "mixture of experts, a shared expert",
        {
            **_GROUPED,
            **_EXPERTS,
            "moe_intermediate_dim": 16,
            "shared_expert_intermediate_dim": 32,
        },
    ),
    "qwen3": _named("Qwen3", "norms of queries and keys", {**_GROUPED, "head_dim": 16}),
    "qwen3_moe": _named(
        "Qwen3Moe",
        "norms of queries and keys, mixture of experts",
        {
            **_GROUPED,
            **_EXPERTS,
            "head_dim": 16,
            "moe_intermediate_dim": 16,
            "norm_top_k_prob": True,
        },
    ),
    "qwen3_5": _named(
        "Qwen3_5",
        "recurrent layers (gated delta net) between those that attend",
        {**_DELTA_NET, "intermediate_dim": 64},
    ),
    "qwen3_5_moe": _named(
        "Qwen3_5Moe",
        "recurrent layers, mixture of experts",
        {
            **_DELTA_NET,
            **_EXPERTS,
            "moe_intermediate_dim": 16,
            "shared_expert_intermediate_size": 16,
        },
    ),
    "phi3": _named(
        "Phi3",
        "fused projections in its checkpoints",
        {**_GROUPED, "max_sequence_length": CONTEXT, "pretraining_sequence_length": CONTEXT},
        vocabulary="sentencepiece",
    ),
    "phi3_su": _named(
        "Phi3",
        "rotary factors for short and for long texts; a file holds short ones, here of 128 tokens",
        {
            **_GROUPED,
            "max_sequence_length": 2 * CONTEXT,
            "pretraining_sequence_length": CONTEXT,
            "rope_scaling_type": "su",
            "rope_scaling_short_factor": [1.0, 1.1, 1.2, 1.3],
            "rope_scaling_long_factor": [2.0, 2.1, 2.2, 2.3],
        },
        vocabulary="sentencepiece",
    ),
    "smollm3": _named(
        "SmolLM3",
        "layers without positions",
        {
            **_LAYERS,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "attention_bias": False,
            "attention_dropout": 0.0,
            "rope_layer_enabled_list": [True, True, False],
            "layer_types": ["attention"] * 3,
            "mlp_bias": False,
            "layer_norm_epsilon": 1e-5,
            "max_position_embeddings": CONTEXT,
            "rope_theta": 10_000.0,
            "partial_rotary_factor": 1.0,
        },
    ),
    "gemma": _named(
        "Gemma",
        "one head of keys and values, scaled embedding",
        {**_LAYERS, "num_query_heads": 4, "num_key_value_heads": 1, "head_dim": 8},
        vocabulary="sentencepiece",
    ),
    "gemma2": _named(
        "Gemma",
        "capped scores and logits, every other layer with a sliding window",
        {
            **_GEMMA2,
            "attention_logit_soft_cap": 50,
            "final_logit_soft_cap": 30,
            "query_head_dim_normalize": False,
        },
        vocabulary="sentencepiece",
        spread=_NORMED_SPREAD,
    ),
    "gemma3": _named(
        "Gemma3",
        "norms of queries and keys, two rotary bases, a cache per layer",
        {
            **_GEMMA2,
            "num_layers": 6,
            "image_size": 16,
            "query_head_dim_normalize": True,
            "use_query_key_norm": True,
            "vision_encoder": None,
        },
        vocabulary="sentencepiece",
        spread=2 * _NORMED_SPREAD,  # with half of it, two tokens of an answer tie
    ),
    "gemma3n": _gemma3n("", 0),
    "gemma3n_shared": _gemma3n("; last layers read the caches of earlier ones", 2),
    "gemma4": _gemma4(""),
    "gemma4_e": _gemma4(
        ", embeddings per layer, shared caches",
        hidden_size_per_layer_input=8,
        num_kv_shared_layers=3,
        use_double_wide_mlp=True,
        sliding_window_pattern=3,
    ),
    "gemma4_moe": _gemma4(
        ", mixture of experts",
        enable_moe_block=True,
        num_experts=4,
        expert_intermediate_dim=16,
        num_experts_per_token=2,
        num_global_key_value_heads=1,
    ),
    "gpt_oss": _named(
        "GptOss",
        "attention sinks, mixture of experts with biases",
        {
            **_GROUPED,
            **_EXPERTS,
            "sliding_window": _WINDOW,
            "head_dim": 8,
            "rope_scaling_factor": 32.0,
        },
    ),
    "rwkv7": _named(
        "RWKV7",
        "recurrent: a state of one size for any text, no attention",
        {
            "hidden_size": WIDTH,
            "num_layers": 3,
            "head_size": 8,
            "intermediate_dim": 64,
            "gate_lora": 8,
            "mv_lora": 4,
            "aaa_lora": 4,
            "decay_lora": 4,
        },
        vocabulary="rwkv",
        gain=5.0,
    ),
    "pali_gemma": _named(
        "PaliGemma",
        "the text side alone, without an image; a prompt is read in both directions, except in "
        "LiteRT-LM for its last token",
        {
            **_LAYERS,
            "num_query_heads": 4,
            "num_key_value_heads": 1,
            "head_dim": 8,
            "image_size": 16,
            "vit_patch_size": 4,
            "vit_num_layers": 2,
            "vit_num_heads": 2,
            "vit_hidden_dim": 8,
            "vit_intermediate_dim": 16,
        },
        vocabulary="sentencepiece",
    ),
}
