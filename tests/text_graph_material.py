"""Texts and tokenizers for the tests of tokenizer graphs."""

import functools
import io
import json
import os
import random
from pathlib import Path
from typing import Any

from hard_texts import corpus
from material import gpt2_vocabulary, mistral_sentencepiece, smollm2_gguf

from llm_tflite.split_regexes import LLAMA3, QWEN2

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

_ATOMS = [
    *("'", "'s", "'S", "'ll", "'LL", "'re", "'Ve", "'\u017f", "a", "b", "aab", "É", "s", "1", "2"),
    *("½", "٣", " ", "  ", "\n", "\r", "\t", "\u00a0", "\u3000", "!", "...", "中", "😀", "\u0301"),
    *("the", " the", "\x85", "\u200b", "▁", "▁▁", "\0", "<|", "<|endoftext|>", "<|im_start|>"),
    *("<|plain|>", "<s>", "</s>", "<unk>", "<0x41>", "<turn>"),
]


def texts() -> list[str]:
    """The hard list, scrambled scripts, mixtures of what is special, and prose."""
    chance = random.Random(5)
    mixed = ["".join(chance.choices(_ATOMS, k=chance.randint(1, 14))) for _ in range(720)]
    page = (Path(__file__).parent.parent / "README.md").read_text()
    excerpts = [page[start : start + 300] for start in chance.choices(range(len(page)), k=100)]
    return [*corpus(), *mixed, *excerpts, page[:3000], "'S 'ſ"]


@functools.cache
def keras_gpt2_json() -> bytes:
    """The vocabulary of GPT-2 as KerasHub writes it."""
    import keras_hub

    from llm_tflite.tokenizer_assets import _serialized

    vocabulary, merges = map(str, gpt2_vocabulary())
    return _serialized(keras_hub.tokenizers.GPT2Tokenizer(vocabulary, merges))[1]


@functools.cache
def single_bytes_json() -> bytes:
    """KerasHub's tokenizer with the vocabulary cut down to single bytes."""
    content = json.loads(keras_gpt2_json())
    vocabulary = content["model"]["vocab"]
    content["model"]["vocab"] = {name: vocabulary[name] for name in vocabulary if len(name) == 1}
    content["model"]["merges"] = []
    name = content["added_tokens"][0]
    content["added_tokens"] = [
        name | {"id": 256},
        name | {"id": 257, "content": "<|plain|>", "special": False},
        name | {"id": 258, "content": "|>a"},
    ]
    return json.dumps(content).encode()


def gpt2_json(pre_tokenizer: Any, **model: Any) -> bytes:
    """The vocabulary of GPT-2 behind another pre-tokenizer."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(keras_gpt2_json().decode())
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.add_tokens([tokenizers.AddedToken("<|plain|>", normalized=False)])
    content = json.loads(tokenizer.to_str())
    content["model"] |= model
    return json.dumps(content).encode()


def split_by_regex(regex: str) -> Any:
    from tokenizers import Regex, pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(regex), "isolated"), byte_level])


def own_regex(*, digits: bool = False, prefix: bool = False) -> Any:
    from tokenizers import pre_tokenizers

    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=True)
    if not digits:
        return byte_level
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])


@functools.cache
def smollm2_json() -> bytes:
    import gguf

    from llm_tflite.demo.gguf_llama import _Fields, _tokenizer
    from llm_tflite.tokenizer_assets import _serialized

    fields = gguf.GGUFReader(smollm2_gguf()).fields.items()
    values = {name: field.contents() for name, field in fields if name.startswith("tokenizer.")}
    return _serialized(_tokenizer(_Fields(values)))[1]


def smollm2_own_json() -> bytes:
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_str(smollm2_json().decode())
    tokenizer.pre_tokenizer = own_regex(digits=True)
    return tokenizer.to_str().encode()


@functools.cache
def rwkv_json() -> bytes:
    """The vocabulary of RWKV, which KerasHub has as a tree of bytes."""
    import keras_hub

    from llm_tflite.demo.vocabularies import rwkv
    from llm_tflite.tokenizer_assets import _serialized

    return _serialized(keras_hub.models.RWKVTokenizer(rwkv()))[1]


def trained(model_type: str, **options: Any) -> bytes:
    """A SentencePiece model of this project's own pages."""
    import sentencepiece

    root = Path(__file__).parent.parent
    pages = [root / "README.md", *sorted((root / "docs").glob("*.md"))]
    lines = [line for page in pages for line in page.read_text().splitlines()]
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=model,
        model_type=model_type,
        minloglevel=2,
        **{"normalization_rule_name": "identity", "vocab_size": 700} | options,
    )
    return model.getvalue()


MARKED = {"user_defined_symbols": ["<turn>", "▁▁", "▁▁▁▁", "ab", "aab", "\n"]}
_EXACT = {"byte_fallback": True, "remove_extra_whitespaces": False}

TOKENIZERS = {
    "gpt2 of keras": ("hf", keras_gpt2_json),
    "gpt2": ("hf", lambda: gpt2_json(own_regex())),
    "gpt2 behind a space": ("hf", lambda: gpt2_json(own_regex(prefix=True))),
    "llama3": ("hf", lambda: gpt2_json(split_by_regex(LLAMA3), ignore_merges=True)),
    "qwen2": ("hf", lambda: gpt2_json(split_by_regex(QWEN2))),
    "smollm2 of keras": ("hf", smollm2_json),
    "smollm2": ("hf", smollm2_own_json),
    "rwkv": ("hf", rwkv_json),
    "mistral": ("sentencepiece", lambda: mistral_sentencepiece().read_bytes()),
    "bpe": ("sentencepiece", lambda: trained("bpe")),
    "bpe with marks": (
        "sentencepiece",
        lambda: trained("bpe", add_dummy_prefix=False, **_EXACT, **MARKED),
    ),
    "bpe across words": ("sentencepiece", lambda: trained("bpe", split_by_whitespace=False)),
    "unigram": ("sentencepiece", lambda: trained("unigram")),
    "unigram of bytes": ("sentencepiece", lambda: trained("unigram", **_EXACT)),
}
