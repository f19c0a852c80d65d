"""Token ids of hard texts by real vocabularies, for the Android app's tokenizers.

``python tests/tokenizer_vectors.py`` writes them to ``android_app/vectors``. The vocabularies stay
where they are: a reader of these files takes them from a converted model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hard_texts import CONTROL_TEXTS, HARD_TEXTS, corpus
from material import gpt2_vocabulary, mistral_sentencepiece, smollm2_gguf
from shared_vectors import FOLDER, Case, as_text

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

TEXTS = HARD_TEXTS + CONTROL_TEXTS + corpus()[len(HARD_TEXTS) :][:80]


def gpt2() -> Any:
    import keras_hub

    vocabulary, merges = gpt2_vocabulary()
    tokenizer = keras_hub.models.GPT2Tokenizer(str(vocabulary), str(merges))
    return keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)


def smollm2() -> Any:
    import gguf
    import keras_hub

    from llm_tflite.demo.gguf_llama import _Fields, _tokenizer

    reader = gguf.GGUFReader(smollm2_gguf())
    fields = _Fields({name: field.contents() for name, field in reader.fields.items()})
    return keras_hub.models.Llama3CausalLMPreprocessor(_tokenizer(fields), sequence_length=16)


def mistral() -> Any:
    import keras_hub

    tokenizer = keras_hub.models.MistralTokenizer(mistral_sentencepiece().read_bytes())
    return keras_hub.models.MistralCausalLMPreprocessor(tokenizer, sequence_length=16)


TOKENIZERS: dict[str, Callable[[], Any]] = {"gpt2": gpt2, "smollm2": smollm2, "mistral": mistral}


def cases(preprocessor: Any) -> list[Case]:
    """What the tokenizer of a file that is converted with ``preprocessor`` says."""
    from llm_tflite.tokenizer_assets import asset_from_keras
    from llm_tflite.tokenizers import load_tokenizer

    asset = asset_from_keras(preprocessor)
    assert asset is not None
    tokenizer = load_tokenizer(asset.kind, asset.data)
    found = []
    for text in TEXTS:
        ids = tokenizer.encode(text)
        found.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids)})
    return found


def document(name: str, preprocessor: Any) -> dict[str, Any]:
    return {
        "about": (
            f"`ids` are the tokens of `text` with the vocabulary of {name}, no start token among "
            "them and names of control tokens read as text; `decoded` is the text of `ids`."
        ),
        "tokenizer": name,
        "cases": cases(preprocessor),
    }


if __name__ == "__main__":
    for each, make in TOKENIZERS.items():
        (FOLDER / f"tokenizer_{each}.json").write_text(as_text(document(each, make())))
