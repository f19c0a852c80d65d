"""Tiny models of the families whose caches are not plain keys and values of every layer."""

from __future__ import annotations

from typing import Any

import numpy as np

VOCABULARY = 160
WINDOW = 6


def gemma3n(*, shared_layers: int = 2, vocabulary: int = VOCABULARY) -> Any:
    """Head-major caches; the last layers read the keys and values of earlier ones."""
    from keras_hub.src.models.gemma3n.gemma3n_backbone import Gemma3nBackbone
    from keras_hub.src.models.gemma3n.gemma3n_causal_lm import Gemma3nCausalLM

    backbone = Gemma3nBackbone(
        text_vocab_size=vocabulary,
        text_hidden_size=32,
        num_hidden_layers=4,
        pad_token_id=0,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        intermediate_size=[64] * 4,
        hidden_activation="gelu_approximate",
        layer_types=["sliding_attention", "full_attention"] * 2,
        sliding_window=WINDOW,
        rope_theta=10000.0,
        max_position_embeddings=64,
        vocab_size_per_layer_input=vocabulary,
        hidden_size_per_layer_input=8,
        altup_num_inputs=2,
        laurel_rank=4,
        activation_sparsity_pattern=[0.5, 0.5, 0.0, 0.0],
        image_token_id=VOCABULARY - 10,
        audio_token_id=VOCABULARY - 9,
        vision_vocab_offset=vocabulary,
        audio_vocab_offset=vocabulary + 100,
        final_logit_soft_cap=30.0,
        num_kv_shared_layers=shared_layers,
    )
    return randomize(Gemma3nCausalLM(backbone=backbone, preprocessor=None), seed=8)


def gemma4(*, vocabulary: int = VOCABULARY, **options: Any) -> Any:
    """The last of six layers has heads of 16, the others of 8."""
    from keras_hub.src.models.gemma4.gemma4_backbone import Gemma4Backbone
    from keras_hub.src.models.gemma4.gemma4_causal_lm import Gemma4CausalLM

    backbone = Gemma4Backbone(
        vocabulary_size=vocabulary,
        num_layers=6,
        hidden_dim=32,
        intermediate_dim=64,
        num_query_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        global_head_dim=16,
        global_rope_partial_rotary_factor=0.25,
        image_size=16,
        use_sliding_window_attention=True,
        sliding_window_size=WINDOW,
        vision_encoder=None,
        final_logit_soft_cap=None,
        **options,
    )
    model = Gemma4CausalLM(backbone=backbone, preprocessor=None, final_logit_cap=30.0)
    return randomize(model)


def gemma4_e(*, vocabulary: int = VOCABULARY) -> Any:
    """Embeddings per layer; the last three layers read the keys and values of the first three."""
    return gemma4(
        vocabulary=vocabulary,
        hidden_size_per_layer_input=8,
        vocab_size_per_layer_input=vocabulary,
        num_kv_shared_layers=3,
        use_double_wide_mlp=True,
        sliding_window_pattern=3,
    )


def gemma4_moe() -> Any:
    """A mixture of experts; the last layer has one key-value head, the others two."""
    return gemma4(
        enable_moe_block=True,
        num_experts=4,
        expert_intermediate_dim=16,
        num_experts_per_token=2,
        num_global_key_value_heads=1,
    )


def gpt_neo_x() -> Any:
    """A quarter of each head is rotated."""
    import keras_hub

    backbone = keras_hub.models.GPTNeoXBackbone(
        vocabulary_size=VOCABULARY,
        num_layers=3,
        num_heads=4,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=64,
    )
    return randomize(keras_hub.models.GPTNeoXCausalLM(backbone=backbone, preprocessor=None))


def randomize(model: Any, seed: int = 0) -> Any:
    """Give every weight a seeded value, large enough for the model to have opinions."""
    random = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        values = random.standard_normal(tuple(variable.shape))
        if len(variable.shape) < 2:
            values = np.asarray(variable) + 0.3 * values
        elif "embedding" in variable.path and variable.shape[0] >= VOCABULARY:
            values *= 0.15
        else:
            values *= 2.0 / np.sqrt(32)
        variable.assign(values.astype(np.float32))
    return model
