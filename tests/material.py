"""Real vocabularies and weights for tests; see ``llm_tflite.demo.material``."""

from __future__ import annotations

from pathlib import Path

from llm_tflite.demo.material import (
    GPT2_MERGES,
    GPT2_VOCABULARY,
    MISTRAL_SENTENCEPIECE,
    fetch,
    smollm2_gguf,
)

__all__ = ["gpt2_vocabulary", "mistral_sentencepiece", "smollm2_gguf"]


def gpt2_vocabulary() -> tuple[Path, Path]:
    return fetch(GPT2_VOCABULARY), fetch(GPT2_MERGES)


def mistral_sentencepiece() -> Path:
    return fetch(MISTRAL_SENTENCEPIECE)
