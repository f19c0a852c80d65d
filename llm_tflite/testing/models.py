"""Models of real families with a tokenizer, small enough to convert in seconds; nothing is fetched.

Their widths are 64 and 88, so that a strategy meets rows that blocks of 32 divide and rows that
they do not.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

from ..demo.shapes import randomize
from ..errors import InvalidOptionError
from ..tokenizers import byte_alphabet

CONTEXT = 64
TEXTS = (
    "The river runs past the old mill.",
    "A cat sat on the mat and looked at the moon.",
    "def area(r):\n    return 3.14 * r**2\n",
    "One, two, three; what comes after that?",
)

_HIDDEN, _INTERMEDIATE = 64, 88
_PIECES = 300  # 256 of them stand for bytes


def tiny_model(family: str = "gpt2", *, seed: int = 0) -> Any:
    """Return a KerasHub ``CausalLM`` of two layers with random weights and a preprocessor.

    Args:
        family: ``"gpt2"``: a tied embedding, biases, a tokenizer of bytes. ``"llama"``: a head of
            its own, grouped queries, SentencePiece. ``"gemma"``: a tied embedding, heads that are
            wider together than the model, SentencePiece.
        seed: The same seed gives the same weights.

    Raises:
        InvalidOptionError: There is no tiny model of this family.
    """
    if family not in _FAMILIES:
        raise InvalidOptionError(f"family must be one of {', '.join(_FAMILIES)}; got {family!r}")
    return randomize(_FAMILIES[family](), seed)


def _gpt2() -> Any:
    import keras_hub

    tokens = [*byte_alphabet(), "th", "the", "<|endoftext|>"]
    tokenizer = keras_hub.models.GPT2Tokenizer(
        vocabulary={token: index for index, token in enumerate(tokens)}, merges=["t h", "th e"]
    )
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=len(tokens),
        num_layers=2,
        num_heads=4,
        hidden_dim=_HIDDEN,
        intermediate_dim=_INTERMEDIATE,
        max_sequence_length=CONTEXT,
    )
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=CONTEXT)
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor)


def _llama() -> Any:
    import keras_hub

    tokenizer = keras_hub.models.LlamaTokenizer(proto=_pieces())
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=_PIECES,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=2,
        hidden_dim=_HIDDEN,
        intermediate_dim=_INTERMEDIATE,
    )
    preprocessor = keras_hub.models.LlamaCausalLMPreprocessor(tokenizer, sequence_length=CONTEXT)
    return keras_hub.models.LlamaCausalLM(backbone, preprocessor)


def _gemma() -> Any:
    import keras_hub

    names = {"pad_piece": "<pad>", "bos_piece": "<bos>", "eos_piece": "<eos>"}
    tokenizer = keras_hub.models.GemmaTokenizer(proto=_pieces(pad_id=3, **names))
    backbone = keras_hub.models.GemmaBackbone(
        vocabulary_size=_PIECES,
        num_layers=2,
        num_query_heads=4,
        num_key_value_heads=1,
        hidden_dim=_HIDDEN,
        intermediate_dim=2 * _INTERMEDIATE,  # of which Keras gives half to each of two matrices
        head_dim=32,
    )
    preprocessor = keras_hub.models.GemmaCausalLMPreprocessor(tokenizer, sequence_length=CONTEXT)
    return keras_hub.models.GemmaCausalLM(backbone, preprocessor)


def _pieces(**options: Any) -> bytes:
    """A SentencePiece model, trained on the spot and always alike."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_writer=model,
        model_type="bpe",
        vocab_size=_PIECES,
        byte_fallback=True,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        minloglevel=2,
        **options,
    )
    return model.getvalue()


_FAMILIES: Mapping[str, Callable[[], Any]] = {"gpt2": _gpt2, "llama": _llama, "gemma": _gemma}
