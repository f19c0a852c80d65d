"""The built-in filter against a plain reading of its rules, on texts cut anywhere."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_tflite.errors import ArtifactNotFoundError, InvalidOptionError
from llm_tflite.safety import ProfanityFilter
from llm_tflite.safety.folding import fold, kind
from llm_tflite.safety.word_list import WordList, parse

PACKAGE = Path(__file__).parent.parent / "llm_tflite"
APP_WORDS = (
    PACKAGE.parent
    / "android_app/core/src/main/resources/io/github/llmtflite/core/profanity_words.txt"
)
WORDS = ["ass", "a is", "as a ss", "14", "坏蛋", "坏b", "ば"]
ALPHABET = "aaasssi4451@$! ,.\u0301\u200dßＡb坏蛋は\u3099ば\U0001f600"
ALIKE = str.maketrans("013457@$", "oieastas")


def plain_find(text: str) -> tuple[int, int] | None:
    """Start and end of the first match, by comparing every entry at every place."""
    letters = [(c, index) for index, character in enumerate(text) for c in fold(character)]
    found: list[tuple[int, int, int]] = []  # end and start among the letters
    for signs, alike in (("", None), ("@$!", ALIKE | {ord("!"): "i"}), ("@$", ALIKE)):
        runs = itertools.groupby(
            range(len(letters)),
            key=lambda i: kind(letters[i][0]) == "word" or letters[i][0] in signs,
        )
        words = []
        for is_word, run in runs:
            places = list(run)
            if is_word:
                word = "".join(letters[i][0] for i in places)
                has_letter = any(unicodedata.category(c)[0] == "L" for c in word)
                words.append((word.translate(alike) if alike and has_letter else word, places))
        for entry in ("ass", "a is", "as a ss", "14"):
            parts = entry.split()
            for first in range(len(words) - len(parts) + 1):
                some = words[first : first + len(parts)]
                if [word for word, _ in some] == parts:
                    found.append((some[-1][1][-1], some[0][1][0], 0))
    whole = "".join(c for c, _ in letters)
    for entry in map(fold, ("坏蛋", "坏b", "ば")):
        for start in range(len(whole)):
            after = whole[start + len(entry) : start + len(entry) + 1]
            goes_on = after and unicodedata.category(after)[0] == "M"
            if whole.startswith(entry, start) and not goes_on:
                found.append((start + len(entry) - 1, start, 1))
    if not found:
        return None
    end, start, _ = min(found)
    return letters[start][1], letters[end][1] + 1


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(ALPHABET, max_size=16), data=st.data())
def test_the_filter_is_its_rules_however_the_text_is_cut(text: str, data: st.DataObject) -> None:
    text_filter = ProfanityFilter(WORDS)
    match = text_filter.find(text)
    expected = plain_find(text)
    assert (match and (match.start, match.end)) == expected
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    gate = text_filter.begin()
    passed = ""
    for begin, end in itertools.pairwise([0, *cuts, len(text)]):
        passed += gate.push(text[begin:end])
        # Whatever may still come, nothing of a match has come out.
        for more in ("", "s", "ss ", "a ss", " is", "蛋"):
            coming = text_filter.find(text[:end] + more)
            assert coming is None or len(passed) <= coming.start
    passed += gate.finish()
    assert passed == (text if expected is None else text[: expected[0]])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(text=st.text(max_size=30))
def test_texts_of_any_script_are_read_without_a_word_of_complaint(text: str) -> None:
    text_filter = ProfanityFilter()
    match = text_filter.find(text)
    gate = text_filter.begin()
    passed = "".join(gate.push(character) for character in text) + gate.finish()
    assert passed == (text if match is None else text[: match.start])


def test_a_folded_text_stays_as_it_is() -> None:
    for code in range(0x30000):
        folded = fold(chr(code))
        assert fold(folded) == folded, hex(code)


def test_every_word_of_the_built_in_list_finds_itself_and_no_other_innocent_text() -> None:
    entries = parse((PACKAGE / "safety/words.txt").read_text())
    assert 50 < len(entries) < 100
    assert len(set(map(fold, entries))) == len(entries)
    text_filter = ProfanityFilter()
    for entry in entries:
        match = text_filter.find(f"x {entry.upper()}.")
        assert match is not None
        assert match.entry == entry
    innocent = (
        "Scunthorpe's class assessed a cockatoo, a dickens of a shiitake; Hancock's passion for "
        "pricking peas, the A55 and B17. 妈妈的手机在他妈妈的包里，操场上的人做操。王八十岁。"
        "Die Fucksia, фак, Φυκ; Fukuoka, Mishit, pushiness. f u n, s.h.a.r.e."
    )
    assert text_filter.find(innocent) is None


def test_the_app_has_the_same_list() -> None:
    if not APP_WORDS.exists():
        pytest.skip("the app is not here")
    assert APP_WORDS.read_bytes() == (PACKAGE / "safety/words.txt").read_bytes()


def test_a_list_is_one_entry_on_each_line_with_comments() -> None:
    assert parse("\ufeff# list\r\none\n\n two words # why\r\n\t\n#none\nthree") == [
        "one",
        "two words",
        "three",
    ]


@pytest.mark.parametrize("words", [[], ["fine", "!?"], ["\u0301"], [" "], "word"], ids=repr)
def test_what_could_match_nothing_is_refused(words: list[str]) -> None:
    with pytest.raises(InvalidOptionError):
        ProfanityFilter(words)


def test_a_filter_may_have_a_list_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# mine\nBanana split\n")
    mine = ProfanityFilter().with_parameter(str(path))
    assert mine.name == "profanity"
    assert mine.describe() == {"entries": 1}
    assert mine.find("one banana-split!") is not None
    path.write_bytes(b"caf\xe9")
    with pytest.raises(InvalidOptionError, match="UTF-8"):
        ProfanityFilter().with_parameter(str(path))
    path.write_text("# nothing\n")
    with pytest.raises(InvalidOptionError, match=r"list\.txt: expected at least one word"):
        ProfanityFilter().with_parameter(str(path))
    with pytest.raises(ArtifactNotFoundError):
        ProfanityFilter().with_parameter(str(tmp_path / "absent.txt"))


def test_what_a_list_holds_is_bounded_by_its_entries() -> None:
    words = WordList.of(["aa bb", "aa cc", "坏蛋"])
    assert len(words.phrase_beginnings) <= sum(len(phrase) for phrase in words.phrases)
    assert words.substring_beginnings == {"坏", "坏蛋"}
