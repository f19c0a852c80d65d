"""A family of KerasHub models, and how to make a small one of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from ..vocabularies import (
    BYTE_PAIR_TOKENS,
    RWKV_TOKENS,
    SENTENCEPIECE_TOKENS,
    byte_pair,
    rwkv,
    sentencepiece,
)

Vocabulary = Literal["byte_pair", "sentencepiece", "rwkv"]

# Of all small models, and the tokens of those that read and write ids only.
WIDTH = 32
TOKENS = 160
# How long their texts may be.
CONTEXT = 128

_VECTOR_NOISE = 0.1
_VOCABULARY_SIZES = {
    None: TOKENS,
    "byte_pair": BYTE_PAIR_TOKENS,
    "sentencepiece": SENTENCEPIECE_TOKENS,
    "rwkv": RWKV_TOKENS,
}


@dataclass(frozen=True)
class Family:
    """One family, or one form of it that takes another way through the converter.

    Attributes:
        causal_lm: The name of its model in ``keras_hub.models``.
        backbone: The name of the model's backbone there.
        special: What it does that a plain decoder does not.
        config: Arguments of the backbone, without the size of the vocabulary.
        vocabulary: The kind of its tokenizer; None for one that no file can carry.
        gain: How loud its layers are. With the vocabulary, seeds and prompts of `make families`,
            8 of 64 greedy tokens are different, at least.
        louder: By how much more the matrices are whose paths hold a name.
        spread: By how much its logits are larger than 1, about.
        sizes: The arguments of the backbone that take the size of the vocabulary.
        options: Further arguments of the model.
    """

    causal_lm: str
    backbone: str
    special: str
    config: Mapping[str, Any]
    vocabulary: Vocabulary | None = "byte_pair"
    gain: float = 3.0
    louder: Mapping[str, float] = field(default_factory=dict)
    spread: float = 1.0
    sizes: tuple[str, ...] = ("vocabulary_size",)
    options: Mapping[str, Any] = field(default_factory=dict)

    def make(self, seed: int = 0, *, text: bool = False) -> Any:
        """Return a small model of the family.

        Args:
            seed: The same seed gives the same weights.
            text: Whether it gets a preprocessor, with the family's own tokenizer on a real
                vocabulary; otherwise it reads and writes 160 token ids.
        """
        import keras_hub

        vocabulary = self.vocabulary if text else None
        sizes = dict.fromkeys(self.sizes, _VOCABULARY_SIZES[vocabulary])
        backbone = getattr(keras_hub.models, self.backbone)(**self.config, **sizes)
        model = getattr(keras_hub.models, self.causal_lm)(
            backbone=backbone,
            preprocessor=self._preprocessor() if vocabulary else None,
            **self.options,
        )
        self._draw(model, seed)
        return model

    def _preprocessor(self) -> Any:
        import keras_hub

        preprocessor = getattr(keras_hub.models, f"{self.causal_lm}Preprocessor")
        if self.vocabulary == "rwkv":
            tokenizer = preprocessor.tokenizer_cls(rwkv())
        elif self.vocabulary == "sentencepiece":
            tokenizer = preprocessor.tokenizer_cls(proto=sentencepiece(), **self._text_only())
        else:
            ids, merges = byte_pair()
            tokenizer = preprocessor.tokenizer_cls(
                vocabulary=ids, merges=merges, **self._text_only()
            )
        return preprocessor(tokenizer, sequence_length=CONTEXT)

    def _text_only(self) -> dict[str, bool]:
        """Tokenizers of models that could see or hear want tokens for that, unless told not to."""
        if self.causal_lm == "Gemma4CausalLM":
            return {"has_vision_tokens": False, "has_video_tokens": False}
        if self.causal_lm in ("Gemma3CausalLM", "Qwen3_5CausalLM", "Qwen3_5MoeCausalLM"):
            return {"has_vision_tokens": False}
        return {}

    def _draw(self, model: Any, seed: int) -> None:
        """Give every weight a random value; quiet embeddings and loud layers.

        The next token then depends on the whole text, where a tied embedding would repeat the last
        token for ever.
        """
        random = np.random.default_rng(seed)
        for variable in model.trainable_variables:
            values = random.standard_normal(tuple(variable.shape), dtype=np.float32)
            if variable.path.endswith("embeddings"):
                values *= self.spread / np.sqrt(WIDTH)
            elif values.ndim > 1 and not variable.path.endswith("bias"):
                values *= self.gain / np.sqrt(WIDTH)
                for name, factor in self.louder.items():
                    values *= factor if name in variable.path else 1.0
            else:  # norms and biases stay near where Keras starts them
                values = _VECTOR_NOISE * values + np.asarray(variable)
            variable.assign(values)
