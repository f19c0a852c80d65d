from __future__ import annotations

import itertools
import random

from hypothesis import given
from hypothesis import strategies as st

from llm_tflite.text import StopStrings, Utf8Assembler


def pieces(data, cuts):
    bounds = [0, *sorted(cuts), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(bounds)]


def assemble(chunks):
    assembler = Utf8Assembler()
    return [assembler.push(chunk) for chunk in chunks] + [assembler.finish()]


@given(text=st.text(), data=st.data())
def test_text_cut_anywhere_between_bytes_comes_out_whole(text, data):
    encoded = text.encode()
    cuts = data.draw(st.lists(st.integers(0, len(encoded))))
    out = assemble(pieces(encoded, cuts))
    assert "".join(out) == text
    for chunk in out:
        assert "\ufffd" in text or "\ufffd" not in chunk


@given(encoded=st.binary(), data=st.data())
def test_broken_bytes_are_replaced_as_in_the_whole(encoded, data):
    cuts = data.draw(st.lists(st.integers(0, len(encoded))))
    assert "".join(assemble(pieces(encoded, cuts))) == encoded.decode("utf-8", "replace")


def test_a_character_waits_for_its_last_byte():
    assert assemble([b"\xf0\x9f", b"\x98", b"\x80!"]) == ["", "", "😀!", ""]
    assert assemble([b"\xf0\x9f"]) == ["", "\ufffd"]


def stopped(text, stops):
    """What the matcher has to give: the text before the stop string that is complete first."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            return text[: end - len(max(ending, key=len))], max(ending, key=len)
    return text, None


@given(
    text=st.text("abc", max_size=40),
    stops=st.lists(st.text("abc", min_size=1, max_size=5), max_size=5),
    data=st.data(),
)
def test_stop_strings_are_found_however_the_text_is_cut(text, stops, data):
    matcher = StopStrings(stops)
    out = "".join(
        matcher.push(p) for p in pieces(text, data.draw(st.lists(st.integers(0, len(text)))))
    )
    assert (out + matcher.finish(), matcher.found) == stopped(text, stops)


@given(text=st.text("ab", max_size=30), stops=st.lists(st.text("ab", min_size=1, max_size=5)))
def test_no_more_is_held_back_than_may_become_a_stop_string(text, stops):
    matcher = StopStrings(stops)
    out = ""
    for end, character in enumerate(text, 1):
        out += matcher.push(character)
        if matcher.found:
            break
        held = text[len(out) : end]
        longest = max(
            (n for s in stops for n in range(1, len(s)) if text[:end].endswith(s[:n])), default=0
        )
        assert len(held) == longest


def test_ten_thousand_stop_strings_are_no_slower_than_one():
    numbers = random.Random(0)
    stops = ["".join(numbers.choices("abcdef", k=12)) for _ in range(10_000)]
    matcher = StopStrings(stops)
    text = "x" * 10_000
    assert matcher.push(text) == text
    assert matcher.push(stops[7]) == ""
    assert matcher.found == stops[7]
