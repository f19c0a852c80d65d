"""Filters of prompts and answers: what an interpreter does with them, and with broken ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from llm_tflite.completion import Chunk, Completion
from llm_tflite.errors import (
    FilteredPromptError,
    InvalidOptionError,
    PluginError,
    PromptError,
    UnknownPluginNameError,
)
from llm_tflite.interpreter import Interpreter
from llm_tflite.plugins import load_plugins
from llm_tflite.safety import ProfanityFilter
from llm_tflite.text_filter import (
    FilterChain,
    Refusal,
    TextGate,
    check_prompt,
    check_text_filter,
    with_filter_parameter,
)

PROMPT = "The quick brown fox"
COUNT = 30


@pytest.fixture(scope="module")
def plain(tflite_path: Path) -> Iterator[Interpreter]:
    with Interpreter(tflite_path, threads=1) as interpreter:
        yield interpreter


@pytest.fixture(scope="module")
def answer(plain: Interpreter) -> Completion:
    return plain.generate(PROMPT, max_new_tokens=COUNT, logprobs=1)


@pytest.fixture(scope="module")
def listed(answer: Completion) -> str:
    """A word in the middle of the answer, which begins nowhere before."""
    text = answer.text
    for match in re.finditer(r"(?<![^ ])[A-Za-z]{4,}(?= )", text):
        word = match.group()
        if match.start() > 10 and ProfanityFilter([word]).find(text).start == match.start():
            return word
    raise AssertionError(f"no word in {text!r}")


def stream(path: Path, filters: list[Any], prompt: Any = PROMPT, **options: Any) -> list[Chunk]:
    with Interpreter(path, threads=1, text_filters=filters) as interpreter:
        return list(interpreter.stream(prompt, max_new_tokens=COUNT, **options))


def test_an_answer_ends_before_a_listed_word(
    tflite_path: Path, answer: Completion, listed: str, plain: Interpreter
) -> None:
    chunks = stream(tflite_path, [ProfanityFilter([listed])], logprobs=1)
    completion = chunks[-1].completion
    assert completion is not None
    assert completion.finish_reason == "filtered"
    assert completion.filtered_by == "profanity"
    assert completion.text == answer.text[: answer.text.index(listed)]
    assert "".join(chunk.text for chunk in chunks) == completion.text
    # No token says what the text does not.
    given = tuple(token for chunk in chunks for token in chunk.token_ids)
    assert given == completion.token_ids == answer.token_ids[: len(given)]
    assert 0 < len(given) < len(answer.token_ids)
    assert completion.text.startswith(plain.detokenize(given))
    assert completion.logprobs == (answer.logprobs or ())[: len(given)]
    assert sum(len(chunk.logprobs or ()) for chunk in chunks) == len(given)
    assert completion.timings.decode_tokens < answer.timings.decode_tokens


def test_a_clean_answer_is_the_same_and_only_later(tflite_path: Path, answer: Completion) -> None:
    chunks = stream(tflite_path, ["profanity", ProfanityFilter(["zyzzyva"])], logprobs=1)
    completion = chunks[-1].completion
    assert completion is not None
    assert (completion.text, completion.token_ids) == (answer.text, answer.token_ids)
    assert completion.finish_reason == answer.finish_reason
    assert completion.logprobs == answer.logprobs
    assert completion.filtered_by is None
    assert "".join(chunk.text for chunk in chunks) == answer.text
    assert tuple(t for chunk in chunks for t in chunk.token_ids) == answer.token_ids


def test_a_word_at_the_very_end_is_decided_there(
    tflite_path: Path, answer: Completion, plain: Interpreter
) -> None:
    for count in range(3, COUNT):
        text = plain.generate(PROMPT, max_new_tokens=count).text
        last = re.search(r"[A-Za-z]+$", text)
        if last and ProfanityFilter([last.group()]).find(text).start == last.start():
            break
    else:
        pytest.skip("the model writes no such word")
    with Interpreter(
        tflite_path, threads=1, text_filters=[ProfanityFilter([last.group()])]
    ) as interpreter:
        completion = interpreter.generate(PROMPT, max_new_tokens=count)
    assert completion.finish_reason == "filtered"
    assert completion.text == text[: last.start()]


def test_a_word_that_begins_in_the_prompt_is_found(tflite_path: Path, answer: Completion) -> None:
    begun = re.match(r" ?\w+", answer.text)
    assert begun, answer.text
    phrase = ("fox" + begun.group()).strip()
    chunks = stream(tflite_path, [ProfanityFilter([phrase])])
    completion = chunks[-1].completion
    assert completion is not None
    assert (completion.text, completion.token_ids) == ("", ())
    assert completion.finish_reason == "filtered"


def test_a_refused_prompt_runs_nothing_and_is_not_repeated(tflite_path: Path) -> None:
    words = ProfanityFilter(["brown fox"])
    with Interpreter(tflite_path, threads=1, text_filters=[words]) as interpreter:
        ids = interpreter.tokenize("A Br0wn, fox")
        for prompt in ("A Br0wn, fox", ids):
            with pytest.raises(FilteredPromptError, match="'profanity' lets no listed word") as e:
                interpreter.stream(prompt)
            assert (e.value.filter_name, e.value.start, e.value.end) == ("profanity", 2, 12)
            assert isinstance(e.value, PromptError)
            assert "fox" not in str(e.value).lower()
        assert interpreter.generate("A brown foxglove", max_new_tokens=2).token_ids
        with pytest.raises(PromptError, match="expected text or a sequence"):
            interpreter.generate(5)


def test_what_context_words_leave_out_is_filtered_too(tflite_path: Path) -> None:
    words = ProfanityFilter(["brown"])
    with (
        Interpreter(tflite_path, threads=1, text_filters=[words]) as interpreter,
        pytest.raises(FilteredPromptError),
    ):
        interpreter.generate(PROMPT, context_words=1)


def test_filters_are_named_or_given_and_must_have_text(tflite_path: Path, variant: Any) -> None:
    for wrong in ("profanity", 5, None):
        with pytest.raises(InvalidOptionError, match="text_filters must be a sequence"):
            Interpreter(tflite_path, text_filters=wrong)
    with pytest.raises(UnknownPluginNameError, match="did you mean 'profanity'"):
        Interpreter(tflite_path, text_filters=["profanities"])
    with pytest.raises(InvalidOptionError, match="the name of this int"):
        Interpreter(tflite_path, text_filters=[5])
    with pytest.raises(InvalidOptionError, match="no tokenizer"):
        Interpreter(variant(tokenizer=False), text_filters=["profanity"])


def test_a_list_in_a_file_is_a_parameter(tmp_path: Path) -> None:
    (tmp_path / "my:list.txt").write_text("banana\n")
    chosen = load_plugins().text_filter(f"profanity:{tmp_path}/my:list.txt")
    with pytest.raises(FilteredPromptError):
        check_prompt([chosen], "a banana")


# --- several, and other people's --------------------------------------------------------------


@dataclass
class Upto:
    """Lets ``count`` characters through; may break in all ways."""

    count: int = 10_000
    name: str = "upto"
    push_error: BaseException | None = None
    says: Any = None

    def describe(self) -> dict[str, Any]:
        return {"count": self.count}

    def begin(self) -> TextGate:
        return UptoGate(self)


@dataclass
class UptoGate:
    maker: Upto
    seen: int = 0
    refusal: Any = None
    held: list[str] = field(default_factory=list)

    def push(self, text: str) -> str:
        if self.maker.push_error:
            raise self.maker.push_error
        if self.maker.says is not None:
            return self.maker.says
        if self.refusal:
            return ""
        left = self.maker.count - self.seen
        self.seen += len(text)
        if len(text) > left:
            self.refusal = Refusal(self.maker.count, self.seen, "long text")
        return text[:left]

    def finish(self) -> str:
        return ""


def passed(chain: FilterChain, text: str) -> str:
    return "".join(chain.push(character) for character in text) + chain.finish()


def test_each_filter_sees_what_the_one_before_lets_through() -> None:
    short = Upto(12)
    words = ProfanityFilter(["bad"])
    for filters in ([short, words], [words, short]):
        chain = FilterChain(filters, "")
        assert passed(chain, "a bad apple pie") == "a "
        assert chain.refused_by == "profanity"
        chain = FilterChain(filters, "")
        assert passed(chain, "a good apple pie") == "a good apple"
        assert chain.refused_by == "upto"
        assert (chain.push("more"), chain.finish()) == ("", "")
    # For the second, the text ends where the first one refuses: what it held back is a word then.
    chain = FilterChain([Upto(5), words], "")
    assert passed(chain, "a badge") == "a "
    assert chain.refused_by == "profanity"


def test_a_prompt_is_known_and_not_given_out() -> None:
    chain = FilterChain([ProfanityFilter(["bad apple"]), ProfanityFilter(["x y z"])], "so bad x")
    assert passed(chain, " y apple") == " y apple"
    chain = FilterChain([ProfanityFilter(["bad apple"])], "so b")
    assert (chain.push("ad"), chain.push(" appl"), chain.push("e"), chain.finish()) == ("",) * 4
    assert chain.refused_by == "profanity"


@pytest.mark.parametrize(
    ("broken", "complaint"),
    [
        (Upto(push_error=ValueError("secret text")), "failed on push.. with ValueError"),
        (Upto(push_error=SystemExit(3)), "failed on push.. with SystemExit"),
        (Upto(says=5), "must return the next characters"),
        (Upto(says="other text"), "must return the next characters"),
        (Upto(says=""), "kept 4 characters at the end and refused nothing"),
    ],
    ids=["raises", "exits", "no text", "other text", "keeps text"],
)
def test_a_filter_that_breaks_lets_nothing_pass(broken: Upto, complaint: str) -> None:
    with pytest.raises(
        PluginError, match=f"'upto' .*{complaint}|'upto' {complaint}|{complaint}"
    ) as e:
        passed(FilterChain([broken], ""), "text")
    assert "secret" not in str(e.value)


def test_a_refusal_must_be_one() -> None:
    class Wrong(Upto):
        def begin(self) -> Any:
            return UptoGate(self, refusal="no")

    with pytest.raises(PluginError, match="must be None or a"):
        passed(FilterChain([Wrong()], ""), "text")


@pytest.mark.parametrize(
    ("candidate", "complaint"),
    [
        (Upto, "pass an instance"),
        (Upto(name="two words"), "names are like 'profanity'"),
        (Upto(name=""), "names are like"),
        (object(), "the name of this object is None"),
        (type("NoBegin", (), {"name": "x", "describe": dict})(), "has no method begin"),
    ],
    ids=["class", "two words", "no name", "object", "no begin"],
)
def test_what_is_no_filter_is_refused(candidate: object, complaint: str) -> None:
    with pytest.raises(InvalidOptionError, match=complaint):
        check_text_filter(candidate)


def test_a_filter_without_parameters_says_so() -> None:
    with pytest.raises(InvalidOptionError, match="'upto' takes no parameter"):
        with_filter_parameter(Upto(), "5")


# --- on the command line ----------------------------------------------------------------------


def test_the_command_line_filters_prompt_and_answer(
    command: Any, tflite_path: Path, tmp_path: Path, answer: Completion, listed: str
) -> None:
    path = tmp_path / "words.txt"
    path.write_text(f"{listed}\nbrown bear\n")
    arguments = ("--text-filter", f"profanity:{path}", "--max-new-tokens", COUNT, "--threads", 1)
    code, out, err = command("generate", tflite_path, PROMPT, *arguments)
    assert code == 0
    assert out == answer.text[: answer.text.index(listed)] + "\n"
    assert "ended by the text filter 'profanity'" in err
    code, out, _ = command("generate", tflite_path, PROMPT, *arguments, "--json")
    assert json.loads(out)["filtered_by"] == "profanity"
    code, out, err = command("generate", tflite_path, "A brown bear", *arguments)
    assert (code, out) == (1, "")
    assert "at characters 2 to 12" in err
    assert "bear" not in err
    code, _, err = command("generate", tflite_path, PROMPT, "--text-filter", "politeness")
    assert code == 1
    assert "expected a text filter out of profanity; got 'politeness'" in err


def test_the_last_words_of_a_prompt_are_given_to_the_model(
    command: Any, plain: Interpreter, tflite_path: Path
) -> None:
    whole = plain.generate(
        "  some words before\nThe quick  brown fox", max_new_tokens=5, context_words=4
    )
    last = plain.generate("The quick  brown fox", max_new_tokens=5, context_words=4)
    assert (whole.trimmed_words, last.trimmed_words) == (3, 0)
    assert whole.token_ids == last.token_ids
    assert whole.prompt_tokens == last.prompt_tokens
    for wrong in (0, -1, 1.5, True, "5"):
        with pytest.raises(InvalidOptionError, match="context_words"):
            plain.generate(PROMPT, context_words=wrong)
    with pytest.raises(InvalidOptionError, match="context_words is about text"):
        plain.generate([5, 6], context_words=1)
    _, _, err = command(
        "generate", tflite_path, PROMPT, "--context-words", 2, "--max-new-tokens", 1
    )
    assert "(2 words left out)" in err
