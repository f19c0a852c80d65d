"""Take the tokenizer out of a KerasHub preprocessor.

Nothing here imports Keras: the objects are recognised by what they offer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from .errors import InvalidOptionError, UnsupportedModelError
from .longest_match import write_longest_match
from .original_tokenization import as_original
from .tokenizers import Kind

# As Keras tokenizes, or as the model's authors do.
Tokenization: TypeAlias = Literal["keras", "original"]

# Ends of a chat turn at which KerasHub's generate() stops by default; only its code knows them
# (generate of Gemma3CausalLM, Gemma3nCausalLM, Gemma4CausalLM and Phi3CausalLM of keras-hub 0.32).
_ENDS_OF_TURN = {
    "Gemma3Tokenizer": "<end_of_turn>",
    "Gemma3nTokenizer": "<end_of_turn>",
    "Gemma4Tokenizer": "<turn|>",
    "Phi3Tokenizer": "<|end|>",
}


@dataclass(frozen=True)
class TokenizerAsset:
    """A tokenizer as an artifact carries it, with the tokens that begin and end a text."""

    kind: Kind
    data: bytes
    start: int | None
    stop: tuple[int, ...]
    tokenization: Tokenization = "keras"


def asset_from_keras(
    preprocessor: Any, tokenization: Tokenization = "keras"
) -> TokenizerAsset | None:
    """Return the tokenizer of a ``CausalLMPreprocessor``; None gives None.

    Args:
        preprocessor: The ``preprocessor`` of a KerasHub causal language model.
        tokenization: Whose behaviour it shall have; SentencePiece tokenizers and RWKV's have but
            one.

    Raises:
        InvalidOptionError: ``tokenization`` is neither of the two.
        UnsupportedModelError: The tokenizer is not of byte pairs, SentencePiece or RWKV, or its
            original form is not known, or the preprocessor wants more than a text.
    """
    if tokenization not in get_args(Tokenization):
        raise InvalidOptionError(
            f"tokenization must be 'keras' or 'original'; got {tokenization!r}"
        )
    if preprocessor is None:
        return None
    tokenizer = getattr(preprocessor, "tokenizer", None)
    if getattr(tokenizer, "add_bos", False) or getattr(tokenizer, "add_eos", False):
        raise UnsupportedModelError(
            f"{type(tokenizer).__name__} adds start or end tokens itself; "
            f"build it with add_bos=False and add_eos=False and let the preprocessor add them"
        )
    kind, data = _serialized(tokenizer, tokenization)
    start = _start(preprocessor, tokenizer)
    return TokenizerAsset(kind, data, start, _stops(tokenizer), tokenization)


def _start(preprocessor: Any, tokenizer: Any) -> int | None:
    """The token that ``generate`` puts before every prompt.

    Asked of ``generate_preprocess`` itself: KerasHub 0.32 adds the start token there even for a
    preprocessor with ``add_start_token=False``.
    """
    start = getattr(tokenizer, "start_token_id", None)
    if start is None:
        return None
    try:
        packed = preprocessor.generate_preprocess("a", sequence_length=8)
    except (KeyError, TypeError, ValueError):  # PaliGemma's takes no prompt without an image
        seen = {"images": np.zeros((8, 8, 3), np.float32), "prompts": "a"}
        try:
            packed = preprocessor.generate_preprocess(seen, sequence_length=8)
        except (KeyError, TypeError, ValueError) as e:
            raise UnsupportedModelError(
                f"expected a preprocessor that takes a text, or a text and an image; "
                f"{type(preprocessor).__name__} takes neither ({e}): a model that reads text alone "
                "may have the preprocessor of another family"
            ) from e
    first = int(np.asarray(packed["token_ids"]).reshape(-1)[0])
    return first if first == int(start) else None


def _serialized(tokenizer: Any, tokenization: Tokenization = "keras") -> tuple[Kind, bytes]:
    proto = getattr(tokenizer, "proto", None)
    if isinstance(proto, bytes) and proto:
        return "sentencepiece", proto
    # KerasHub builds the fast form of a byte-pair tokenizer at its first use.
    if getattr(tokenizer, "_tokenizer", None) is None:
        getattr(tokenizer, "_maybe_initialized_tokenizers", lambda: None)()
    inner = getattr(tokenizer, "_tokenizer", None)
    if isinstance(tokens := getattr(inner, "idx2token", None), dict):
        return "hf", write_longest_match(tokens)
    to_json = getattr(inner, "to_str", None)
    if to_json is None:
        raise UnsupportedModelError(
            f"expected a tokenizer of byte pairs, SentencePiece or RWKV with a vocabulary; "
            f"got {type(tokenizer).__name__}: pass the model with preprocessor=None, for a file of "
            "token ids"
        )
    data = to_json().encode("utf-8")
    return "hf", as_original(tokenizer, data) if tokenization == "original" else data


def _stops(tokenizer: Any) -> tuple[int, ...]:
    """The tokens at which ``generate(stop_token_ids="auto")`` stops."""
    stops = [getattr(tokenizer, name, None) for name in ("end_token_id", "end_token2_id")]
    for cls in type(tokenizer).__mro__:
        if text := _ENDS_OF_TURN.get(cls.__name__):
            token = int(tokenizer.token_to_id(text))
            # Vocabularies without it answer with the unknown token.
            stops.append(token if tokenizer.id_to_token(token) == text else None)
    return tuple(dict.fromkeys(int(stop) for stop in stops if stop is not None))
