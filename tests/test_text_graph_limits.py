"""What tokenizer graphs refuse, and vocabularies that no training makes."""

import json
import random
from typing import Any

import pytest
from converted_graph import traced_encode
from text_graph_material import MARKED, single_bytes_json, trained

from llm_tflite.errors import CorruptArtifactError, IncompatibleArtifactError, UnsupportedModelError
from llm_tflite.text_graph import graph_tokenizer
from llm_tflite.tokenizers import load_tokenizer


def _changed(path: str, value: Any) -> bytes:
    content = json.loads(single_bytes_json())
    *parents, name = path.split("/")
    section = content
    for parent in parents:
        section = section[int(parent)] if isinstance(section, list) else section[parent]
    section[name] = value
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("path", "value", "named"),
    [
        ("normalizer", {"type": "NFC"}, "no normalizer, found 'NFC'"),
        ("model/byte_fallback", True, "no byte_fallback"),
        ("model/end_of_word_suffix", "x", "no end_of_word_suffix"),
        ("added_tokens/0/lstrip", True, "without lstrip"),
        ("added_tokens/0/normalized", True, "without normalized"),
        ("pre_tokenizer", {"type": "Whitespace"}, r"Whitespace.*supported are ByteLevel"),
        ("pre_tokenizer", None, "supported are ByteLevel"),
        ("pre_tokenizer/pretokenizers/0/pattern", {"Regex": r"\w+"}, r"\\w\+.*Llama 3 or Qwen 2"),
        ("pre_tokenizer/pretokenizers/0/behavior", "Removed", "Removed"),
        ("pre_tokenizer/pretokenizers/1/add_prefix_space", True, "add_prefix_space"),
        (
            "truncation",
            {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
            "no truncation",
        ),
    ],
)
def test_byte_pair_tokenizers_without_graph_are_refused(path: str, value: Any, named: str):
    with pytest.raises(UnsupportedModelError, match=named):
        graph_tokenizer("hf", _changed(path, value), special_tokens=True)


@pytest.mark.parametrize(
    ("model_type", "options", "named"),
    [
        ("bpe", {"normalization_rule_name": "nmt_nfkc"}, "identity normalizer, found nmt_nfkc"),
        ("word", {}, "BPE or UNIGRAM, found WORD"),
        ("char", {"vocab_size": 90}, "BPE or UNIGRAM, found CHAR"),
        ("bpe", {"treat_whitespace_as_suffix": True}, "treat_whitespace_as_suffix"),
        ("unigram", MARKED, "without user-defined pieces, found '<turn>'"),
    ],
)
def test_sentencepiece_models_without_graph_are_refused(
    model_type: str, options: dict[str, Any], named: str
):
    with pytest.raises(UnsupportedModelError, match=named):
        graph_tokenizer("sentencepiece", trained(model_type, **options), special_tokens=True)


def test_what_is_no_tokenizer_is_refused():
    with pytest.raises(CorruptArtifactError):
        graph_tokenizer("hf", b"{}", special_tokens=True)
    with pytest.raises(CorruptArtifactError):
        graph_tokenizer("sentencepiece", b"", special_tokens=True)
    with pytest.raises(IncompatibleArtifactError, match="wordpiece"):
        graph_tokenizer("wordpiece", b"", special_tokens=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("order", [0, 1, 2])
def test_merges_in_any_order_are_those_of_the_library(order: int):
    import tokenizers
    from tokenizers import decoders, models, pre_tokenizers

    chance = random.Random(order)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = {a + b for a in "abc" for b in "abc"} | {"aab", "abb", "abc", "aabb", "abab", "abcabc"}
    merges = [
        (word[:cut], word[cut:])
        for word in sorted(words)
        for cut in range(1, len(word))
        if {word[:cut], word[cut:]} <= words | set("abc")
    ]
    chance.shuffle(merges)
    vocabulary = {piece: token for token, piece in enumerate([*alphabet, *sorted(words)])}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    data = tokenizer.to_str().encode()
    host = load_tokenizer("hf", data)
    encode = traced_encode(graph_tokenizer("hf", data, special_tokens=False))
    for _ in range(150):
        text = "".join(chance.choices("abc ", [5, 5, 3, 1], k=chance.randint(1, 40)))
        assert encode(text) == host.encode(text), text
