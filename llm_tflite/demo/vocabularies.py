"""Real vocabularies with the control tokens that KerasHub's tokenizers ask for."""

from __future__ import annotations

import json

from .material import (
    GPT2_MERGES,
    GPT2_VOCABULARY,
    MISTRAL_SENTENCEPIECE,
    RWKV_VOCABULARY,
    fetch,
)

# Sizes with the tokens below behind the published ones.
BYTE_PAIR_TOKENS = 50_271
SENTENCEPIECE_TOKENS = 32_017
# Token 0 ends a text and has no bytes.
RWKV_TOKENS = 65_530

_BYTE_PAIR_CONTROLS = (
    "<s>",
    "</s>",
    "<pad>",
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|im_start|>",
    "<|im_end|>",
    "<think>",
    "</think>",
    "<tool_response>",
    "</tool_response>",
)
_SENTENCEPIECE_CONTROLS = (
    "<bos>",
    "<eos>",
    "<pad>",
    "<|endoftext|>",
    "<|end|>",
    "<turn|>",
    "<image_soft_token>",
    "<audio_soft_token>",
    "<start_of_image>",
    "<end_of_image>",
    "<start_of_audio>",
    "<end_of_audio>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<mask>",
    "[multimodal]",
    "<img>",
)


def byte_pair() -> tuple[dict[str, int], list[str]]:
    """Return GPT-2's vocabulary, control tokens behind it, and its merges."""
    ids: dict[str, int] = json.loads(fetch(GPT2_VOCABULARY).read_text(encoding="utf-8"))
    for token in _BYTE_PAIR_CONTROLS:
        ids[token] = len(ids)
    # The first line of the file names its version.
    lines = fetch(GPT2_MERGES).read_text(encoding="utf-8").rstrip("\n").split("\n")
    return ids, lines[1:]


def sentencepiece() -> bytes:
    """Return Mistral's SentencePiece model with control tokens behind its pieces."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(fetch(MISTRAL_SENTENCEPIECE).read_bytes())
    for token in _SENTENCEPIECE_CONTROLS:
        model.pieces.add(piece=token, score=0.0, type=model.SentencePiece.CONTROL)
    serialized: bytes = model.SerializeToString()
    return serialized


def rwkv() -> list[str]:
    """Return the lines of RWKV's vocabulary, of 65,529 tokens."""
    return fetch(RWKV_VOCABULARY).read_text(encoding="utf-8").splitlines()
