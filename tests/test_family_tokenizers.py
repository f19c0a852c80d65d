"""Every family's own tokenizer on a real vocabulary: text, control tokens, starts and stops."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from hard_texts import CONTROL_TEXTS, HARD_TEXTS, corpus

import llm_tflite as lt
from llm_tflite.demo.families import FAMILIES
from llm_tflite.demo.vocabularies import byte_pair, rwkv
from llm_tflite.errors import UnsupportedModelError
from llm_tflite.longest_match import read_longest_match, write_longest_match
from llm_tflite.tokenizer_assets import TokenizerAsset, asset_from_keras
from llm_tflite.tokenizers import Tokenizer, load_tokenizer

os.environ.setdefault("KERAS_BACKEND", "tensorflow")

# Of mistral_common/data/tekken_240718.json.
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# One of each class; PaliGemma's preprocessor wants an image with every text.
NAMES = [
    name
    for name in FAMILIES
    if name not in ("gemma2", "gemma3n_shared", "gemma4_e", "gemma4_moe", "phi3_su", "pali_gemma")
]


def model_of(name: str) -> Any:
    import keras_hub

    if name == "mistral tekken":
        ids, merges = byte_pair()
        tokenizer = keras_hub.models.MistralTekkenTokenizer(ids, merges, split_pattern=TEKKEN)
        preprocessor = keras_hub.models.MistralCausalLMPreprocessor(tokenizer, sequence_length=128)
        return small("mistral", preprocessor, len(ids))
    if name == "pali_gemma":
        tokenizer = FAMILIES[name].make(text=True).preprocessor.tokenizer
        preprocessor = keras_hub.models.GemmaCausalLMPreprocessor(tokenizer, sequence_length=128)
        return small("gemma", preprocessor, tokenizer.vocabulary_size())
    return FAMILIES[name].make(text=True)


def small(name: str, preprocessor: Any, vocabulary_size: int) -> Any:
    """A small model of a family with another tokenizer."""
    import keras_hub

    family = FAMILIES[name]
    backbone = getattr(keras_hub.models, family.backbone)(
        **family.config, vocabulary_size=vocabulary_size
    )
    return getattr(keras_hub.models, family.causal_lm)(backbone, preprocessor=preprocessor)


@dataclass(frozen=True)
class Case:
    model: Any
    asset: TokenizerAsset
    host: Tokenizer

    @property
    def keras(self) -> Any:
        return self.model.preprocessor.tokenizer

    @property
    def reads_control_names(self) -> bool:
        """Whether Keras takes the name of a control token in a text for that token."""
        return hasattr(self.keras, "merges")

    def keras_ids(self, text: str) -> list[int]:
        return [int(token) for token in self.keras(text)]

    def keras_text(self, ids: list[int]) -> str:
        text = self.keras.detokenize(ids)
        return str(text[0] if isinstance(text, list) else text)


@pytest.fixture(scope="module", params=[*NAMES, "mistral tekken", "pali_gemma"])
def case(request: pytest.FixtureRequest) -> Case:
    model = model_of(request.param)
    asset = asset_from_keras(model.preprocessor)
    assert asset is not None
    return Case(model, asset, load_tokenizer(asset.kind, asset.data))


class Asked(Exception):  # noqa: N818
    """What KerasHub's ``generate`` asked of its graph."""


def asked_of(model: Any, prompt: str) -> tuple[list[int], list[int]]:
    """The tokens that Keras' ``generate`` would go on from, and those at which it would stop."""

    def graph(inputs: dict[str, Any], stop_token_ids: list[int]) -> NoReturn:
        raise Asked(inputs, stop_token_ids)

    model.generate_function = graph
    with pytest.raises(Asked) as caught:
        model.generate(prompt, max_length=64)
    inputs, stops = caught.value.args
    inputs = {name: np.asarray(value)[0] for name, value in inputs.items() if value is not None}
    if "predict_token_ids" in inputs:  # RWKV: all but the last token, then that one and room
        tokens = [*inputs["token_ids"][inputs["input_padding_mask"] > 0]]
        tokens.append(inputs["predict_token_ids"][0])
    else:
        tokens = inputs["token_ids"][inputs["padding_mask"] > 0]
    return [int(token) for token in tokens], [int(stop) for stop in stops]


# --- text ---------------------------------------------------------------------------------------


def test_ids_are_those_of_keras(case: Case) -> None:
    for text in corpus():
        assert case.host.encode(text) == case.keras_ids(text), repr(text)


def test_text_of_ids_is_that_of_keras(case: Case) -> None:
    for text in [*corpus(), *CONTROL_TEXTS]:
        if ids := case.host.encode(text):
            assert case.host.decode(ids) == case.keras_text(ids), repr(text)


def test_names_of_control_tokens_are_text_and_only_byte_pairs_of_keras_differ(case: Case) -> None:
    differences = 0
    for text in CONTROL_TEXTS:
        ids = case.host.encode(text)
        assert case.host.decode(ids) == text
        if not case.reads_control_names:
            assert ids == case.keras_ids(text), repr(text)
        differences += ids != case.keras_ids(text)
    assert bool(differences) == case.reads_control_names


def test_names_of_control_tokens_are_tokens_where_asked_as_in_byte_pairs_of_keras(
    case: Case,
) -> None:
    controls = set()
    for text in CONTROL_TEXTS:
        ids = case.host.encode(text, allow_special_tokens=True)
        if case.reads_control_names:
            assert ids == case.keras_ids(text), repr(text)
        controls |= {token for token in ids if not case.host.token_bytes(token)}
    names_its_stops = set(case.asset.stop) <= controls
    assert names_its_stops or "RWKV" in type(case.keras).__name__


# --- starts and stops ---------------------------------------------------------------------------


def test_texts_begin_and_end_as_in_generate_of_keras(case: Case) -> None:
    prompt = "Is this\n the way?"
    tokens, stops = asked_of(case.model, prompt)
    start = [] if case.asset.start is None else [case.asset.start]
    assert start + case.host.encode(prompt) == tokens
    assert list(case.asset.stop) == stops


def test_every_class_of_tokenizer_is_among_them() -> None:
    """A new one in KerasHub, or in our table of families, must join this test."""
    tested = {FAMILIES[name].causal_lm for name in [*NAMES, "pali_gemma"]}
    assert tested == {family.causal_lm for family in FAMILIES.values()}


def test_a_preprocessor_that_takes_images_too_gives_its_start() -> None:
    preprocessor = FAMILIES["pali_gemma"].make(text=True).preprocessor
    asset = asset_from_keras(preprocessor)
    assert asset is not None
    assert asset.start == preprocessor.tokenizer.start_token_id


def test_a_preprocessor_that_takes_more_than_text_and_images_is_refused() -> None:
    class Listener:
        tokenizer = FAMILIES["pali_gemma"].make(text=True).preprocessor.tokenizer

        def generate_preprocess(self, x: Any, sequence_length: int) -> Any:
            return x["sounds"][:sequence_length]

    with pytest.raises(UnsupportedModelError, match=r"Listener takes neither .*'sounds'"):
        asset_from_keras(Listener())


@pytest.mark.parametrize("name", ["gemma3", "gemma4", "phi3"])
def test_a_vocabulary_without_the_end_of_turn_does_not_stop_at_what_is_unknown(name: str) -> None:
    from sentencepiece import sentencepiece_model_pb2

    model = FAMILIES[name].make(text=True)
    tokenizer = model.preprocessor.tokenizer
    *_, turn = asked_of(model, "a")[1]
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer.proto)
    proto.pieces[turn].piece = "<other>"
    tokenizer.set_proto(proto.SerializeToString())
    end, unknown = tokenizer.end_token_id, 0
    # Phi-3 of Keras takes 0 for "not there".
    assert asked_of(model, "a")[1] == ([end] if name == "phi3" else [end, unknown])
    asset = asset_from_keras(model.preprocessor)
    assert asset is not None
    assert asset.stop == (end,)


# --- RWKV ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trie() -> Any:
    import keras_hub

    return keras_hub.models.RWKVTokenizer(rwkv())


@pytest.fixture(scope="module")
def longest_match(trie: Any) -> Tokenizer:
    return load_tokenizer("hf", write_longest_match(trie._tokenizer.idx2token))


def test_every_token_of_rwkv_has_its_bytes(trie: Any, longest_match: Tokenizer) -> None:
    tokens = trie._tokenizer.idx2token
    assert {token: longest_match.token_bytes(token) for token in tokens} == tokens
    assert longest_match.vocabulary_size == len(tokens) == 65_529
    assert longest_match.token_bytes(0) == longest_match.token_bytes(65_530) == b""


def test_an_end_of_rwkv_adds_nothing_as_in_keras(trie: Any, longest_match: Tokenizer) -> None:
    ids = longest_match.encode("one, two")
    assert longest_match.decode([*ids, 0]) == trie.detokenize([*ids, 0])[0] == "one, two"


def test_half_a_character_is_text_where_keras_raises(trie: Any, longest_match: Tokenizer) -> None:
    half = [longest_match.encode("\U00020001")[0]]
    assert longest_match.decode(half) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        trie.detokenize(half)


def test_a_text_of_rwkv_takes_time_by_its_length(longest_match: Tokenizer) -> None:
    """Left to WordPiece alone, these take minutes."""
    for text in ("今天天气很好" * 3000, "a" * 20_000, " " * 20_000, "\U00020001" * 5000):
        assert longest_match.decode(longest_match.encode(text)) == text


def test_its_original_form_is_the_one_of_keras(trie: Any) -> None:
    preprocessor = type("Preprocessor", (), {"tokenizer": trie})()
    keras, original = asset_from_keras(preprocessor), asset_from_keras(preprocessor, "original")
    assert keras is not None
    assert original is not None
    assert original.data == keras.data


def bytes_and(*others: bytes) -> dict[int, bytes]:
    return dict(enumerate([*(bytes([byte]) for byte in range(256)), *others], start=1))


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ({1: b"a"}, r"each of the 256 bytes; it has none for 255, the first of them b'\\x00'"),
        (bytes_and(b"a"), "all of them different"),
        (bytes_and(b""), "with bytes"),
        (bytes_and("é".encode()[1:] + b"a"), r"b'\\xa9a' is a part of several"),
    ],
)
def test_a_vocabulary_that_has_no_such_form_is_refused(
    tokens: dict[int, bytes], message: str
) -> None:
    with pytest.raises(UnsupportedModelError, match=message):
        write_longest_match(tokens)


def test_any_bytes_may_be_tokens() -> None:
    """Against the definition, with tokens that mean something to regular expressions."""
    texts = ["^-]", "^-", "a|b", "[a", "[a-z]&&~~", "\\s", "(?:", "#  x", "é|", "\r\n", "\n\n\n"]
    texts += ["é", *("=" * size for size in (2, 14, 15, 31, 40)), "a" * 13 + "b", "a" * 13 + "bc"]
    tokens = bytes_and(*(text.encode() for text in texts), b"\xf0\x9f")
    host = load_tokenizer("hf", write_longest_match(tokens))
    ids = {data: token for token, data in tokens.items()}
    for text in [
        *HARD_TEXTS,
        *CONTROL_TEXTS,
        "^-]^-^",
        "[a-z]&&~~[a-z]&&~",
        "(?:\\s\\",
        "#  x# ",
        "=" * 99,
        "a" * 15 + "bcd",
    ]:
        data, expected = text.encode(), []
        while data:
            size = max(n for n in range(1, 41) if data[:n] in ids)
            expected.append(ids[data[:size]])
            data = data[size:]
        assert host.encode(text) == expected, repr(text)


def test_another_way_to_cut_is_not_taken_for_the_longest_match() -> None:
    data = write_longest_match(bytes_and(b"ab"))
    assert read_longest_match(data) == bytes_and(b"ab")
    other = json.loads(data)
    other["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"[\s\S]"
    assert load_tokenizer("hf", json.dumps(other).encode()).encode("ab") == [98, 99]
    assert read_longest_match(json.dumps(other).encode()) is None


@pytest.fixture(scope="module")
def rwkv_model(trie: Any) -> Any:
    """A small GPT-2 that reads and writes the tokens of RWKV."""
    import keras
    import keras_hub

    # Its answers have whole characters only: Keras raises at others.
    keras.utils.set_random_seed(3)
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(trie, sequence_length=128)
    return small("gpt2", preprocessor, 65_530)


@pytest.mark.parametrize("layout", ["prefill_decode", "generate"])
def test_rwkv_text_goes_into_a_file_and_comes_out(
    rwkv_model: Any, layout: str, tmp_path: Path
) -> None:
    options = {"max_length": 64} if layout == "generate" else {"context_length": 64}
    path = tmp_path / "model.tflite"
    lt.Converter(rwkv_model, layout=layout, quantizer="none", **options).convert(path)
    rwkv_model.compile(sampler="greedy")
    with lt.Interpreter(path) as interpreter:
        for prompt in ("今天天气很好 and so", "one\n\ntwo  three 👩‍👧"):
            expected = rwkv_model.generate(prompt, max_length=32)
            count = 32 - len(interpreter.tokenize(prompt))
            answer = interpreter.generate(prompt, max_new_tokens=count).text
            assert prompt + answer == expected


def test_the_official_runtime_reads_the_tokenizer_of_rwkv(
    rwkv_model: Any, longest_match: Tokenizer, tmp_path: Path
) -> None:
    path = tmp_path / "model.litertlm"
    lt.Converter(rwkv_model, quantizer="none", context_length=64).convert(path)
    code = """
import json, sys
import litert_lm
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
path, texts = json.load(sys.stdin)
backend = litert_lm.Backend.CPU(thread_count=2)
with litert_lm.Engine(path, backend=backend, cache_dir=":memory") as engine:
    ids = [engine.tokenize(text) for text in texts]
    texts = [engine.detokenize(each) for each in ids]
    print(json.dumps([ids, texts, engine.eos_token_ids]))
"""
    texts = [text for text in [*HARD_TEXTS, *CONTROL_TEXTS] if text and "\0" not in text]
    child = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([str(path), texts]),
        capture_output=True,
        text=True,
        check=True,
    )
    ids, back, stops = json.loads(child.stdout.splitlines()[-1])
    assert ids == [longest_match.encode(text) for text in texts]
    assert back == texts
    assert stops == [[261]]
