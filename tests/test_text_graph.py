"""Tokenizer graphs against the tokenizers on the host."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from converted_graph import ConvertedTokenizer, convert, traced_encode
from hard_texts import HARD_TEXTS
from text_graph_material import TOKENIZERS, single_bytes_json, texts

from llm_tflite.text_graph import graph_tokenizer
from llm_tflite.text_graph.split_patterns import PATTERNS, PatternSplitter
from llm_tflite.tokenizers import load_tokenizer

_WITHOUT_BYTES = ("bpe", "bpe across words", "unigram")
_RANDOM_BYTES = Path(__file__).with_name("random_bytes.py")


class Case:
    """A tokenizer on the host and as a graph."""

    def __init__(self, name: str) -> None:
        kind, make = TOKENIZERS[name]
        data = make()
        self.name = name
        self.kind = kind
        self.host = load_tokenizer(kind, data)
        self.graph = ConvertedTokenizer(convert(graph_tokenizer(kind, data, special_tokens=True)))

    def host_ids(self, text: str) -> list[int]:
        return self.host.encode(text, allow_special_tokens=True)

    def host_bytes(self, ids: list[int]) -> bytes:
        if self.kind == "hf":
            return b"".join(map(self.host.token_bytes, ids))
        return self.host.decode(ids).encode()


# The others differ in a rule or a flag; SmolLM2 has the rule of GPT-2 too.
_ALWAYS_TESTED = ("gpt2 of keras", "smollm2", "mistral", "bpe with marks", "unigram")


def _marked(name: str) -> Any:
    return pytest.param(name, marks=() if name in _ALWAYS_TESTED else pytest.mark.slow)


@pytest.fixture(scope="module", params=map(_marked, TOKENIZERS))
def case(request: pytest.FixtureRequest) -> Case:
    return Case(request.param)


# --- equal to the host --------------------------------------------------------------------------


def test_ids_and_text_are_those_of_the_host(case: Case):
    for text in texts():
        ids = case.host_ids(text)
        assert case.graph.encode(text.encode()) == ids, repr(text)
        assert case.graph.decode(ids) == case.host_bytes(ids), repr(text)


def test_only_builtin_operators_are_in_the_file(case: Case):
    assert case.graph.custom_operators() == []
    assert case.graph.constant_bytes() < 2_000_000


def test_an_empty_text_has_one_padding_and_no_bytes(case: Case):
    ids, count = case.graph.encode_padded(b"")
    assert len(ids) >= 1
    assert count == len(case.host_ids(""))
    assert case.graph.decode([], 0) == b""


def test_only_the_first_ids_and_those_of_the_vocabulary_are_text(case: Case):
    ids = case.host_ids("abc def")
    outside = [-1, -(2**31), 10**6, 2**31 - 1]
    assert case.graph.decode([*ids, *outside, *ids], len(ids) + 4) == case.host_bytes(ids)
    assert case.graph.decode(ids, 0) == b""


@pytest.mark.parametrize(
    ("kind", "make"), [("hf", single_bytes_json), TOKENIZERS["bpe with marks"]]
)
def test_names_of_control_tokens_are_text_unless_asked_for(kind: str, make: Callable[[], bytes]):
    data = make()
    host = load_tokenizer(kind, data)
    encode = traced_encode(graph_tokenizer(kind, data, special_tokens=False))
    for text in [*texts()[::4], "a<|endoftext|>b<|plain|>c", "<s>a</s>"]:
        assert encode(text) == host.encode(text), repr(text)


@pytest.mark.parametrize("regex", PATTERNS)
def test_words_are_those_of_the_regular_expression(regex: str):
    from tokenizers import Regex, pre_tokenizers

    host = pre_tokenizers.Split(Regex(regex), "isolated")
    splitter = PatternSplitter(PATTERNS[regex])
    find = tf.function(splitter.starts, autograph=False, reduce_retracing=True)
    for text in filter(None, texts()):
        encoded = np.frombuffer(text.encode(), np.uint8).astype(np.int32)
        cuts = np.flatnonzero(find(encoded, np.zeros(encoded.shape, bool))).tolist()
        words = [word.encode() for word, _ in host.pre_tokenize_str(text)]
        assert cuts == [0, *itertools.accumulate(map(len, words[:-1]))], repr(text)


# --- bytes that are no text ---------------------------------------------------------------------


def test_random_bytes_survive(case: Case, tmp_path: Path):
    """In a process of its own, which has to live."""
    if case.name in _WITHOUT_BYTES:
        assert case.graph.decode(case.graph.encode(b"\xff")).strip() == "\u2047".encode()
        return
    case.graph.save(tmp_path)
    prefix = " " if case.name == "gpt2 behind a space" else ""
    command = [sys.executable, _RANDOM_BYTES, case.kind, tmp_path, prefix]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[-1] == "survived"


def test_the_hard_list_is_part_of_the_thousand():
    assert len(texts()) >= 990
    assert set(HARD_TEXTS) < set(texts())
