"""Models of a real shape with seeded random weights: for tests and speed figures, not for talk.

What a model costs to convert and to run depends on its shape alone, and parity with Keras can be
shown on any weights. The weights are drawn so that greedy output does not collapse into one token.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["gpt2_124m", "gpt2_xl", "randomize", "tiny_gpt2", "tiny_llama", "tiny_llama3"]

_Folder = str | os.PathLike[str]
# Loud layers and quiet embeddings: the next token then depends on the whole context, where small
# weights would let the tied embedding repeat the last token for ever.
_LAYER_GAIN = 3.0
_VECTOR_NOISE = 0.1


def gpt2_124m(seed: int = 0, *, vocabulary: _Folder | None = None, dtype: str = "float32") -> Any:
    """The shape of GPT-2 base: 124 M parameters, 12 layers of 768, 12 heads, context 1024.

    Args:
        seed: The same seed gives the same weights.
        vocabulary: Folder with the original ``encoder.json`` and ``vocab.bpe``; without it the
            model has no preprocessor and takes token ids only.
        dtype: Keras' policy for all layers.
    """
    return _gpt2(seed, vocabulary, layers=12, heads=12, hidden=768, context=1024, dtype=dtype)


def gpt2_xl(seed: int = 0, *, vocabulary: _Folder | None = None, dtype: str = "float32") -> Any:
    """The shape of GPT-2 XL: 1.56 B parameters, 48 layers of 1600, 25 heads; 6.2 GB of memory."""
    return _gpt2(seed, vocabulary, layers=48, heads=25, hidden=1600, context=1024, dtype=dtype)


def tiny_gpt2(seed: int = 0, *, vocabulary: _Folder | None = None, dtype: str = "float32") -> Any:
    """A GPT-2 of 3 layers of 32: 160 tokens, or all 50257 when a ``vocabulary`` folder is given."""
    size = 160 if vocabulary is None else 50257
    shape = {"layers": 3, "heads": 4, "hidden": 32, "context": 256, "tokens": size}
    return _gpt2(seed, vocabulary, **shape, dtype=dtype)


def tiny_llama(seed: int = 0, *, dtype: str = "float32") -> Any:
    """A Llama of 3 layers of 32 with an untied head and 4 query heads on 2 key/value heads."""
    import keras_hub

    backbone = keras_hub.models.LlamaBackbone(**_tiny_llama_config(), dtype=dtype)
    return randomize(keras_hub.models.LlamaCausalLM(backbone=backbone, preprocessor=None), seed)


def tiny_llama3(seed: int = 0) -> Any:
    """A Llama 3.1 of 3 layers of 32: tied embedding, adjusted rotary frequencies."""
    import keras_hub

    backbone = keras_hub.models.Llama3Backbone(
        **_tiny_llama_config(),
        rope_frequency_adjustment_factor=8.0,
        rope_low_freq_factor=1.0,
        rope_high_freq_factor=4.0,
        rope_pretraining_sequence_length=32,
        tie_word_embeddings=True,
    )
    return randomize(keras_hub.models.Llama3CausalLM(backbone=backbone, preprocessor=None), seed)


def randomize(model: Any, seed: int) -> Any:
    """Give every weight of ``model`` a seeded random value, one at a time, and return the model."""
    rng = np.random.default_rng(seed)
    for variable in model.trainable_variables:
        shape = tuple(variable.shape)
        values = rng.standard_normal(shape, dtype=np.float32)
        if variable.path.endswith("embeddings"):
            values /= np.sqrt(model.backbone.hidden_dim)  # logits spread by about 1
        elif variable.path.endswith("kernel"):
            inputs = int(np.prod(shape[:-1])) if "attention_output" in variable.path else shape[0]
            values *= _LAYER_GAIN / np.sqrt(inputs)
        else:  # norms and biases stay near where Keras starts them
            values = _VECTOR_NOISE * values + np.asarray(variable)
        variable.assign(values)
    return model


def _gpt2(
    seed: int,
    vocabulary: _Folder | None,
    *,
    layers: int,
    heads: int,
    hidden: int,
    context: int,
    tokens: int = 50257,
    dtype: str = "float32",
) -> Any:
    import keras_hub

    preprocessor = None
    if vocabulary is not None:
        folder = Path(vocabulary)
        ids = json.loads((folder / "encoder.json").read_text(encoding="utf-8"))
        # The first line of the file names its version.
        merges = (folder / "vocab.bpe").read_text(encoding="utf-8").rstrip("\n").split("\n")[1:]
        preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(
            keras_hub.models.GPT2Tokenizer(vocabulary=ids, merges=merges), sequence_length=context
        )
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=tokens,
        num_layers=layers,
        num_heads=heads,
        hidden_dim=hidden,
        intermediate_dim=4 * hidden,
        max_sequence_length=context,
        dtype=dtype,
    )
    model = keras_hub.models.GPT2CausalLM(backbone=backbone, preprocessor=preprocessor)
    return randomize(model, seed)


def _tiny_llama_config() -> dict[str, int]:
    return {
        "vocabulary_size": 160,
        "num_layers": 3,
        "num_query_heads": 4,
        "num_key_value_heads": 2,
        "hidden_dim": 32,
        "intermediate_dim": 64,
    }
