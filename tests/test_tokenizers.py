import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hard_texts import corpus
from hypothesis import given, settings
from hypothesis import strategies as st
from material import gpt2_vocabulary, mistral_sentencepiece

from llm_tflite.errors import (
    CorruptArtifactError,
    IncompatibleArtifactError,
    InvalidOptionError,
    PromptError,
    UnsupportedModelError,
)
from llm_tflite.tokenizer_assets import TokenizerAsset, asset_from_keras
from llm_tflite.tokenizers import Tokenizer, load_tokenizer

os.environ.setdefault("KERAS_BACKEND", "tensorflow")


@pytest.fixture(scope="module")
def gpt2() -> Any:
    import keras_hub

    vocabulary, merges = gpt2_vocabulary()
    tokenizer = keras_hub.models.GPT2Tokenizer(str(vocabulary), str(merges))
    return keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=16)


@pytest.fixture(scope="module")
def mistral() -> Any:
    import keras_hub

    tokenizer = keras_hub.models.MistralTokenizer(mistral_sentencepiece().read_bytes())
    return keras_hub.models.MistralCausalLMPreprocessor(tokenizer, sequence_length=16)


@pytest.fixture(scope="module")
def byte_pair(gpt2: Any) -> Tokenizer:
    asset = asset_from_keras(gpt2)
    assert asset is not None
    return load_tokenizer(asset.kind, asset.data)


@pytest.fixture(scope="module")
def sentence_piece(mistral: Any) -> Tokenizer:
    asset = asset_from_keras(mistral)
    assert asset is not None
    return load_tokenizer(asset.kind, asset.data)


# --- against Keras ------------------------------------------------------------------------------


def test_byte_pair_ids_are_those_of_keras(gpt2: Any, byte_pair: Tokenizer):
    for text in corpus():
        assert byte_pair.encode(text) == [int(i) for i in gpt2.tokenizer(text)], repr(text)


def test_sentence_piece_ids_are_those_of_keras(mistral: Any, sentence_piece: Tokenizer):
    for text in corpus():
        assert sentence_piece.encode(text) == [int(i) for i in mistral.tokenizer(text)], repr(text)


def test_text_of_ids_is_that_of_keras(gpt2, byte_pair, mistral, sentence_piece):
    for text in corpus():
        for preprocessor, tokenizer in ((gpt2, byte_pair), (mistral, sentence_piece)):
            if ids := tokenizer.encode(text):
                assert tokenizer.decode(ids) == preprocessor.tokenizer.detokenize(ids), repr(text)


def test_assets_carry_the_tokens_that_keras_adds_and_stops_at(gpt2: Any, mistral: Any):
    import keras_hub

    asset = asset_from_keras(gpt2)
    assert asset is not None
    assert (asset.kind, asset.start, asset.stop) == ("hf", 50256, (50256,))
    asset = asset_from_keras(mistral)
    assert asset == TokenizerAsset("sentencepiece", mistral_sentencepiece().read_bytes(), 1, (2,))
    without = keras_hub.models.GPT2CausalLMPreprocessor(gpt2.tokenizer, add_start_token=False)
    asset = asset_from_keras(without)
    assert asset is not None
    # KerasHub 0.32 generates with a start token all the same, and so does the artifact.
    assert without.generate_preprocess("a")["token_ids"][0] == 50256
    assert asset.start == 50256
    assert asset_from_keras(None) is None


def test_a_second_end_token_is_a_stop(gpt2: Any):
    import keras_hub

    vocabulary = dict(gpt2.tokenizer.vocabulary)
    names = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|eot_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
    ]
    for name in names:
        vocabulary[name] = len(vocabulary)
    tokenizer = keras_hub.models.Llama3Tokenizer(
        vocabulary, list(gpt2.tokenizer.merges), bos_token=names[0], eos_token=names[1]
    )
    asset = asset_from_keras(keras_hub.models.Llama3CausalLMPreprocessor(tokenizer))
    assert asset is not None
    ids = {name: vocabulary[name] for name in names}
    assert asset.start == ids["<|begin_of_text|>"]
    assert set(asset.stop) == {ids["<|end_of_text|>"], ids["<|eot_id|>"]}


def test_a_tokenizer_of_another_kind_is_refused_by_name():
    import keras_hub

    words = keras_hub.tokenizers.WordPieceTokenizer(["[UNK]", "a"])
    for tokenizer, name in ((words, "WordPieceTokenizer"), (None, "NoneType")):
        preprocessor = type("Preprocessor", (), {"tokenizer": tokenizer})()
        with pytest.raises(UnsupportedModelError, match=name):
            asset_from_keras(preprocessor)


# --- control tokens -----------------------------------------------------------------------------


def test_the_name_of_a_control_token_is_text_unless_asked_otherwise(byte_pair: Tokenizer):
    text = "a<|endoftext|>b <|endoftext|>"
    assert 50256 not in byte_pair.encode(text)
    assert byte_pair.decode(byte_pair.encode(text)) == text
    assert byte_pair.encode(text, allow_special_tokens=True) == [64, 50256, 65, 220, 50256]
    assert 50256 not in byte_pair.encode(text), "the choice is made per call"


def test_the_name_of_a_control_piece_is_text_unless_asked_otherwise(sentence_piece: Tokenizer):
    text = "a<s>b</s>"
    plain = sentence_piece.encode(text)
    assert not {1, 2} & set(plain)
    assert sentence_piece.decode(plain) == text
    allowed = sentence_piece.encode(text, allow_special_tokens=True)
    assert allowed == [*sentence_piece.encode("a"), 1, *sentence_piece.encode("b"), 2]
    assert sentence_piece.decode(allowed) == "a b"


def test_control_and_unknown_ids_add_nothing(byte_pair: Tokenizer, sentence_piece: Tokenizer):
    assert byte_pair.token_bytes(50256) == b""
    assert sentence_piece.token_bytes(1) == sentence_piece.token_bytes(2) == b""
    for tokenizer in (byte_pair, sentence_piece):
        assert tokenizer.token_bytes(10**9) == b""
        assert tokenizer.decode([10**9]) == ""
        for act in (tokenizer.token_bytes, lambda token, t=tokenizer: t.decode([token])):
            with pytest.raises(InvalidOptionError):
                act(-1)


# --- bytes --------------------------------------------------------------------------------------


def test_every_token_has_bytes(byte_pair: Tokenizer, sentence_piece: Tokenizer):
    assert byte_pair.vocabulary_size == 50257
    assert sentence_piece.vocabulary_size == 32000
    empty = [i for i in range(50257) if not byte_pair.token_bytes(i)]
    assert empty == [50256]
    assert [i for i in range(32000) if not sentence_piece.token_bytes(i)] == [1, 2]


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_bytes_of_the_tokens_are_the_text(byte_pair: Tokenizer, text: str):
    joined = b"".join(byte_pair.token_bytes(i) for i in byte_pair.encode(text))
    assert joined == text.encode()
    assert byte_pair.decode(byte_pair.encode(text)) == text


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"])))
def test_the_bytes_of_pieces_are_the_text_behind_its_first_space(sentence_piece, text: str):
    ids = sentence_piece.encode(text)
    joined = b"".join(sentence_piece.token_bytes(i) for i in ids)
    # A "▁" that was typed is a space for SentencePiece.
    assert joined == (b" " + text.replace("\u2581", " ").encode() if text else b"")


def test_a_text_without_utf8_form_is_refused(byte_pair: Tokenizer, sentence_piece: Tokenizer):
    for tokenizer in (byte_pair, sentence_piece):
        with pytest.raises(PromptError, match="position 3"):
            tokenizer.encode("abc\ud800")
        for text in (b"abc", None, ["a"]):
            with pytest.raises(PromptError, match="str"):
                tokenizer.encode(text)  # type: ignore[arg-type]


def test_threads_may_share_a_tokenizer(byte_pair: Tokenizer, sentence_piece: Tokenizer):
    texts = [*corpus(), "a<|endoftext|>b<s>"]
    jobs = [
        (t, text, special)
        for t in (byte_pair, sentence_piece)
        for text in texts
        for special in (True, False)
    ]
    alone = [t.encode(text, allow_special_tokens=special) for t, text, special in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = pool.map(
            lambda job: job[0].encode(job[1], allow_special_tokens=job[2]), jobs * 3
        )
        assert list(together) == alone * 3


# --- bad files ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", b"null", b"\xff", b"[" * 100_000, b'{"model":{"type":"BPE"}}', b"\0" * 1000],
)
@pytest.mark.parametrize("kind", ["hf", "sentencepiece"])
def test_bad_bytes_are_refused(kind: str, data: bytes):
    with pytest.raises(CorruptArtifactError):
        load_tokenizer(kind, data)


def test_cut_tokenizers_are_refused(gpt2: Any, mistral: Any):
    for preprocessor in (gpt2, mistral):
        asset = asset_from_keras(preprocessor)
        assert asset is not None
        for part in (1, 10, len(asset.data) // 2, len(asset.data) - 1):
            with pytest.raises(CorruptArtifactError):
                load_tokenizer(asset.kind, asset.data[:part])


def test_tokenizers_of_other_kinds_are_incompatible():
    import tokenizers

    words = tokenizers.Tokenizer(tokenizers.models.WordLevel({"a": 0}, unk_token="a"))
    with pytest.raises(IncompatibleArtifactError, match="byte-level"):
        load_tokenizer("hf", words.to_str().encode())
    with pytest.raises(IncompatibleArtifactError, match="wordpiece"):
        load_tokenizer("wordpiece", b"")


# --- as the original model tokenizes ------------------------------------------------------------


def original(preprocessor: Any) -> Tokenizer:
    asset = asset_from_keras(preprocessor, "original")
    assert asset is not None
    assert asset.tokenization == "original"
    return load_tokenizer(asset.kind, asset.data)


def test_gpt2_has_the_words_of_its_authors(gpt2: Any, byte_pair: Tokenizer):
    """Against the library's own ByteLevel, which has GPT-2's regular expression built in."""
    import tokenizers

    fast = tokenizers.Tokenizer.from_str(gpt2.tokenizer._tokenizer.to_str())
    fast.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = original(gpt2)
    texts = [*corpus(), "one\n\ntwo"]
    for text in texts:
        expected = fast.encode(text, add_special_tokens=False).ids
        assert found.encode(text, allow_special_tokens=True) == expected
        assert found.decode(expected) == fast.decode(expected)
    assert found.encode(texts[-1]) != byte_pair.encode(texts[-1])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("12345 it's\n\nso", ["123", "45", " it", "'s", "\n\n", "so"]),
        ("DON'T stop", ["DON", "'T", " stop"]),
    ],
)
def test_llama3_has_the_words_of_its_authors(gpt2: Any, text: str, words: list[str]):
    import keras_hub

    merges = list(gpt2.tokenizer.merges)
    vocabulary = dict(gpt2.tokenizer.vocabulary)
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>"]
    names += ["<|start_header_id|>", "<|end_header_id|>"]
    vocabulary |= {name: len(vocabulary) + i for i, name in enumerate(names)}
    tokenizer = keras_hub.models.Llama3Tokenizer(
        vocabulary, merges, bos_token=names[0], eos_token=names[1]
    )
    found = original(keras_hub.models.Llama3CausalLMPreprocessor(tokenizer))
    assert found.encode(text) == [token for word in words for token in found.encode(word)]
    assert len(found.encode("12345")) == 2


def test_qwen_brings_text_to_its_normal_form(gpt2: Any):
    import keras_hub

    vocabulary = dict(gpt2.tokenizer.vocabulary)
    vocabulary["<|im_end|>"] = len(vocabulary)
    tokenizer = keras_hub.models.Qwen3Tokenizer(vocabulary, list(gpt2.tokenizer.merges))
    found = original(keras_hub.models.Qwen3CausalLMPreprocessor(tokenizer))
    assert found.encode("cafe\u0301") == found.encode("caf\u00e9")
    assert len(found.encode("12345")) == 5


def test_sentencepiece_has_but_one_form(mistral: Any):
    keras, own = asset_from_keras(mistral), asset_from_keras(mistral, "original")
    assert keras is not None
    assert own is not None
    assert own.data == keras.data


def test_an_unknown_original_is_refused_by_name(gpt2: Any):
    import keras_hub

    tokenizer = keras_hub.tokenizers.BytePairTokenizer(
        dict(gpt2.tokenizer.vocabulary), list(gpt2.tokenizer.merges)
    )
    preprocessor = type("P", (), {"tokenizer": tokenizer})()
    with pytest.raises(UnsupportedModelError, match="got BytePairTokenizer: use tokenization="):
        asset_from_keras(preprocessor, "original")
    with pytest.raises(InvalidOptionError, match="'keras' or 'original'"):
        asset_from_keras(gpt2, "theirs")  # type: ignore[arg-type]
