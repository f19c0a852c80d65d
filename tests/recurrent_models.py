"""Tiny models of the families that keep a state, with the real vocabulary of GPT-2."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from material import gpt2_vocabulary

VOCABULARY_SIZE = 50257
_WIDTH = 32
_QWEN = {
    "vocabulary_size": VOCABULARY_SIZE,
    "num_layers": 2,
    "hidden_dim": _WIDTH,
    "num_query_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "layer_types": ["linear_attention", "full_attention"],
    "partial_rotary_factor": 0.25,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 4,
    "linear_value_head_dim": 4,
    "linear_conv_kernel_dim": 4,
}


def rwkv7() -> Any:
    import keras_hub

    return _finished(
        keras_hub.models.RWKV7CausalLM,
        keras_hub.models.RWKV7Backbone,
        vocabulary_size=VOCABULARY_SIZE,
        hidden_size=_WIDTH,
        num_layers=2,
        head_size=8,
        intermediate_dim=64,
        gate_lora=8,
        mv_lora=4,
        aaa_lora=4,
        decay_lora=4,
    )


def qwen3_5() -> Any:
    import keras_hub

    models = keras_hub.models
    return _finished(models.Qwen3_5CausalLM, models.Qwen3_5Backbone, **_QWEN, intermediate_dim=64)


def qwen3_5_moe() -> Any:
    import keras_hub

    return _finished(
        keras_hub.models.Qwen3_5MoeCausalLM,
        keras_hub.models.Qwen3_5MoeBackbone,
        **_QWEN,
        moe_intermediate_dim=16,
        shared_expert_intermediate_size=16,
        num_experts=4,
        top_k=2,
    )


def _finished(model: Any, backbone: Any, **sizes: Any) -> Any:
    """A model whose random weights are large enough for it to have opinions."""
    import keras_hub

    keras.utils.set_random_seed(0)
    vocabulary, merges = gpt2_vocabulary()
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=str(vocabulary), merges=str(merges))
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=64)
    made = model(backbone=backbone(**sizes), preprocessor=preprocessor)
    random = np.random.default_rng(0)
    for weight in made.trainable_variables:
        shape = tuple(weight.shape)
        if len(shape) < 2:
            values = np.asarray(weight.value) + random.normal(0, 0.3, shape)
        elif VOCABULARY_SIZE in shape:
            values = random.normal(0, 0.3, shape)
        else:
            values = random.normal(0, 4 / _WIDTH**0.5, shape)
        weight.assign(values.astype(np.float32))
    return made
