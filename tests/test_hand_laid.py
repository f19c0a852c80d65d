"""The graphs that ours are compared with compute what Keras computes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hand_laid import SLOTS, TOLERANCE, difference_from_keras
from benchmarks.hand_laid_gemma3 import lay_gemma3
from benchmarks.hand_laid_graph import ARRANGEMENTS, Arrangement, Lay, write_hand_laid
from benchmarks.hand_laid_llama import lay_llama
from llm_tflite.demo import shapes
from llm_tflite.quantizers.none import NoQuantization


def tied_llama() -> Any:
    """Three layers with four query heads on two key-value heads."""
    import keras_hub

    backbone = keras_hub.models.Llama3Backbone(
        vocabulary_size=160,
        num_layers=3,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        tie_word_embeddings=True,
    )
    model = keras_hub.models.Llama3CausalLM(backbone=backbone, preprocessor=None)
    return shapes.randomize(model, 0)


def tiny_gemma3() -> Any:
    """Seven layers, so that one sees all of a text; the others see six tokens."""
    import keras_hub

    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=160,
        image_size=None,
        num_layers=7,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        head_dim=16,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=6,
    )
    model = keras_hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=None)
    return shapes.randomize(model, 0)


@pytest.mark.parametrize("arrangement", ARRANGEMENTS, ids=lambda arrangement: arrangement.name)
@pytest.mark.parametrize(("load", "lay"), [(tied_llama, lay_llama), (tiny_gemma3, lay_gemma3)])
def test_a_hand_laid_graph_gives_the_logits_of_keras(
    load: Callable[[], Any], lay: Lay, arrangement: Arrangement, tmp_path: Path
) -> None:
    model, path = load(), tmp_path / "m.tflite"
    write_hand_laid(
        path, model, lay, slots=SLOTS, arrangement=arrangement, strategy=NoQuantization()
    )
    for slots in SLOTS:
        assert difference_from_keras(path, slots, model) < TOLERANCE
