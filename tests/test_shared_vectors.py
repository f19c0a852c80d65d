"""What the Android app must answer as this library does; ``shared_vectors.py`` states it."""

from __future__ import annotations

import json
from typing import Any

import pytest
import shared_vectors
import tokenizer_vectors
from hard_texts import CONTROL_TEXTS
from shared_vectors import CONTEXT_WINDOW, FOLDER, PROFANITY, STREAM_GATE, UTF8

from llm_tflite.context_window import last_words
from llm_tflite.prompt import keep_last
from llm_tflite.safety import ProfanityFilter
from llm_tflite.text import Utf8Assembler

Case = dict[str, Any]


def named(cases: list[Case]) -> Any:
    assert len({case["name"] for case in cases}) == len(cases)
    return pytest.mark.parametrize("case", cases, ids=[case["name"] for case in cases])


def test_the_files_hold_what_is_stated_in_ascii() -> None:
    for name, document in shared_vectors.documents().items():
        text = (FOLDER / name).read_text()
        assert text.isascii()
        assert json.loads(text) == document, "run python tests/shared_vectors.py"


def test_the_files_are_small() -> None:
    assert sum(path.stat().st_size for path in FOLDER.glob("*.json")) < 500_000
    assert sum(path.stat().st_size for path in FOLDER.glob("tokenizer_*.json")) < 200_000


@pytest.mark.parametrize("name", tokenizer_vectors.TOKENIZERS)
def test_token_ids_are_those_of_the_file_and_of_keras(name: str) -> None:
    preprocessor = tokenizer_vectors.TOKENIZERS[name]()
    text = (FOLDER / f"tokenizer_{name}.json").read_text()
    assert text.isascii()
    assert json.loads(text) == tokenizer_vectors.document(name, preprocessor)
    for case in json.loads(text)["cases"]:
        if case["text"] not in CONTROL_TEXTS:  # Keras reads names of control tokens as these
            assert case["ids"] == [int(i) for i in preprocessor.tokenizer(case["text"])]


@named(PROFANITY)
def test_the_filter_finds_the_first_listed_word(case: Case) -> None:
    text, expected = case["text"], case["match"]
    match = ProfanityFilter(case["words"]).find(text)
    found = match and {
        "entry": match.entry,
        "before": text[: match.start],
        "matched": text[match.start : match.end],
    }
    assert found == expected


@named(PROFANITY)
def test_a_gate_lets_through_what_is_before_the_word(case: Case) -> None:
    text, match = case["text"], case["match"]
    for chunks in ([text], list(text)):
        passed, entry = passed_by_gate(case["words"], chunks)
        assert passed[-1] == (text if match is None else match["before"])
        assert entry == (match and match["entry"])


def passed_by_gate(words: list[str], chunks: list[str]) -> tuple[list[str], str | None]:
    """All that came out after each chunk and at the end, and the entry that ended it."""
    gate = ProfanityFilter(words).begin()
    passed = [""]
    for chunk in chunks:
        passed.append(passed[-1] + gate.push(chunk))
    passed.append(passed[-1] + gate.finish())
    if gate.refusal is None:
        return passed, None
    match = ProfanityFilter(words).find("".join(chunks))
    assert match is not None
    assert (match.start, match.end) == (gate.refusal.start, gate.refusal.end)
    return passed, match.entry


@named(STREAM_GATE)
def test_a_stream_is_held_back_until_it_is_decided(case: Case) -> None:
    chunks = case["chunks"]
    passed, entry = passed_by_gate(case["words"], chunks)
    assert (passed[-1], entry) == (case["text"], case["entry"])
    for step in case["released"]:
        out = passed[step["after_chunks"]]
        assert out.startswith(step["at_least"])
        assert step["at_most"].startswith(out)
    for others in (["".join(chunks)], list("".join(chunks))):
        again, entry = passed_by_gate(case["words"], others)
        assert (again[-1], entry) == (case["text"], case["entry"])


@named(CONTEXT_WINDOW)
def test_a_window_keeps_the_end(case: Case) -> None:
    if case["unit"] == "words":
        window = last_words(case["text"], case["window"])
        assert (window.text, window.words_left_out) == (case["kept"], case["left_out"])
    else:
        kept = keep_last(case["ids"], case["window"], start=case["start_token"])
        assert (kept, len(case["ids"]) - len(kept)) == (case["kept"], case["left_out"])


@named(UTF8)
def test_bytes_become_whole_characters(case: Case) -> None:
    chunks = [bytes.fromhex(chunk) for chunk in case["chunks_hex"]]
    whole = b"".join(chunks)
    for pieces in (chunks, [whole], [bytes([byte]) for byte in whole]):
        assembler = Utf8Assembler()
        steps = [assembler.push(piece) for piece in pieces]
        assert "".join(steps) + assembler.finish() == case["text"]
        if pieces is chunks and case["steps"] is not None:
            assert steps == case["steps"]
    assert whole.decode("utf-8", "replace") == case["text"]
