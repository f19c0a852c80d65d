"""What comes out of ``generate``, ``stream`` and ``score``, and which prompts and options go in."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from conftest import CONTEXT, convert, tiny_gpt2

from llm_tflite.errors import (
    ContextOverflowError,
    InvalidOptionError,
    PromptError,
    RuntimeFailureError,
)
from llm_tflite.interpreter import Interpreter
from llm_tflite.manifest import Tokens
from llm_tflite.sampling import Sampling

PROMPT = "The quick brown fox"
IDS = [464, 2068, 7586, 21831]
START = 50256


@pytest.fixture(scope="module")
def interpreter(tflite_path):
    with Interpreter(tflite_path, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def never_ending(variant):
    """The same model without stop tokens and without a start token."""
    with Interpreter(variant(tokens=Tokens(start=None, stop=())), threads=1) as opened:
        yield opened


# --- prompts ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prompt",
    [
        *(None, 5, 1.5, b"bytes", bytearray(b"x"), True, {1, 2}, {1: 2}, iter([1])),
        *([], [1.0], [True], ["a"], [[1, 2]], [None], [-1], [50257], [10**30]),
        *(np.array(5), np.array([[1, 2]]), np.array([1.0]), np.array([True]), np.array("text")),
        *("\ud800", "half \udfff of a pair"),
    ],
    ids=lambda prompt: repr(prompt).partition(" at 0x")[0],
)
def test_what_is_no_prompt_is_refused(interpreter, prompt):
    for call in (interpreter.generate, interpreter.stream, interpreter.score):
        with pytest.raises(PromptError):
            call(prompt)


def test_every_form_of_a_prompt_gives_the_same_answer(interpreter):
    expected = interpreter.generate([START, *IDS], max_new_tokens=5).token_ids
    ids = [START, *IDS]
    for prompt in (PROMPT, np.str_(PROMPT), tuple(ids), np.array(ids), np.array(ids, np.uint16)):
        assert interpreter.generate(prompt, max_new_tokens=5).token_ids == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "x",
        " ",
        "\0",
        "a\0b",
        "\ufeffBOM",
        "e\u0301",
        "שלום",
        "👩‍👩‍👧",
        "a\r\nb\nc\r",
        "<|endoftext|>",
    ],
)
def test_text_reaches_the_model_exactly(interpreter, prompt):
    ids = interpreter.tokenize(prompt)
    assert interpreter.detokenize(ids) == prompt
    completion = interpreter.generate(prompt, max_new_tokens=1)
    assert completion.prompt_tokens == len(ids) + 1


def test_control_tokens_in_text_are_text_unless_asked_for(interpreter):
    assert START not in interpreter.tokenize("a<|endoftext|>b")
    assert START in interpreter.tokenize("a<|endoftext|>b", allow_special_tokens=True)
    plain = interpreter.generate("<|endoftext|>", max_new_tokens=1)
    special = interpreter.generate("<|endoftext|>", max_new_tokens=1, allow_special_tokens=True)
    assert (plain.prompt_tokens > 2, special.prompt_tokens) == (True, 2)


def test_text_begins_with_the_start_token_and_token_ids_are_left_alone(interpreter, never_ending):
    assert interpreter.generate(PROMPT, max_new_tokens=1).prompt_tokens == 5
    assert interpreter.generate(IDS, max_new_tokens=1).prompt_tokens == 4
    assert interpreter.generate("", max_new_tokens=1).prompt_tokens == 1
    assert never_ending.generate(PROMPT, max_new_tokens=1).prompt_tokens == 4
    with pytest.raises(PromptError, match="empty"):
        never_ending.generate("")


# --- the context ------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 5, CONTEXT // 2, CONTEXT - 1, CONTEXT])
def test_a_prompt_fits_the_window_or_is_refused_with_the_remedies(never_ending, window):
    for count in {1, window - 1, window} - {0}:
        completion = never_ending.generate(IDS * 16, context_window=window, trim_prompt=True)
        assert completion.prompt_tokens == window
        completion = never_ending.generate(([7] * count), context_window=window)
        assert completion.finish_reason == "context"
        assert len(completion.token_ids) == CONTEXT - count + 1
    for count in (window + 1, 10 * window):
        with pytest.raises(ContextOverflowError, match=rf"{count} tokens .* holds {window}.*trim"):
            never_ending.stream([7] * count, context_window=window)


def test_a_trimmed_prompt_keeps_its_end_and_its_start_token(interpreter, never_ending):
    ids = [*range(100, 120)]
    trimmed = never_ending.generate(ids, context_window=6, trim_prompt=True, max_new_tokens=8)
    assert trimmed.trimmed_tokens == 14
    assert trimmed.token_ids == never_ending.generate(ids[-6:], max_new_tokens=8).token_ids
    trimmed = interpreter.generate(
        [START, *ids], context_window=6, trim_prompt=True, max_new_tokens=8
    )
    assert trimmed.trimmed_tokens == 15
    kept = [START, *ids[-5:]]
    assert trimmed.token_ids == interpreter.generate(kept, max_new_tokens=8).token_ids


def test_the_window_is_half_of_the_context_unless_told_otherwise(interpreter, tflite_path):
    interpreter.generate([7] * (CONTEXT // 2), max_new_tokens=1)
    with pytest.raises(ContextOverflowError):
        interpreter.generate([7] * (CONTEXT // 2 + 1), max_new_tokens=1)
    for window in (0, CONTEXT + 1, 2.0, True):
        with pytest.raises(InvalidOptionError, match="context_window"):
            interpreter.generate([7], context_window=window)
        with pytest.raises(InvalidOptionError, match="context_window"):
            Interpreter(tflite_path, context_window=window)


def test_chunks_and_pads_change_nothing_for_any_length_of_prompt(never_ending):
    ids = np.random.default_rng(0).integers(0, 50257, CONTEXT).tolist()
    for count in range(1, CONTEXT + 1):
        completion = never_ending.generate(
            ids[:count], max_new_tokens=1, logprobs=0, context_window=CONTEXT
        )
        token = completion.token_ids[0]
        step_by_step = never_ending.score([*ids[:count], token]).tokens[-1]
        assert completion.logprobs[0].logprob == pytest.approx(step_by_step.logprob, abs=1e-4)


# --- how answers end --------------------------------------------------------------------------


def test_max_new_tokens_is_exact(never_ending):
    for count in (0, 1, 17):
        completion = never_ending.generate(IDS, max_new_tokens=count)
        assert (len(completion.token_ids), completion.finish_reason) == (count, "length")
    completion = never_ending.generate(IDS, max_new_tokens=10**9)
    assert (len(completion.token_ids), completion.finish_reason) == (CONTEXT - 3, "context")


@pytest.mark.parametrize(
    "options",
    [
        *({"max_new_tokens": value} for value in (-1, True, 1.0, "3")),
        *({"logprobs": value} for value in (-1, 21, True, 1.5)),
        *({"stop": value} for value in ("", ["a", ""], [1], [None])),
        *({"stop_token_ids": value} for value in ([-1], [50257], [1.0], ["a"])),
        {"sampling": "greedy"},
    ],
    ids=repr,
)
def test_impossible_options_are_refused_when_the_call_is_made(interpreter, options):
    with pytest.raises(InvalidOptionError, match=next(iter(options))):
        interpreter.stream(PROMPT, **options)


def test_a_stop_token_ends_the_answer_and_is_not_part_of_it(never_ending):
    answer = never_ending.generate(IDS, max_new_tokens=20)
    stop = answer.token_ids[12]
    first = answer.token_ids.index(stop)
    stopped = never_ending.generate(IDS, max_new_tokens=20, stop_token_ids=[stop])
    assert stopped.finish_reason == "stop"
    assert stopped.token_ids == answer.token_ids[:first]
    assert answer.text.startswith(stopped.text)


def test_the_artifact_s_stop_tokens_hold_unless_others_are_given(variant, never_ending):
    answer = never_ending.generate(IDS, max_new_tokens=6).token_ids
    with Interpreter(variant(tokens=Tokens(start=None, stop=answer[3:4]))) as opened:
        assert opened.generate(IDS, max_new_tokens=6).finish_reason == "stop"
        unstopped = opened.generate(IDS, max_new_tokens=6, stop_token_ids=())
        assert unstopped.token_ids == answer


def test_a_stop_string_across_tokens_ends_the_answer_before_it(never_ending):
    options = {"max_new_tokens": 30, "sampling": Sampling(seed=11)}
    answer = never_ending.generate(IDS, **options)
    texts = [never_ending.detokenize([token]) for token in answer.token_ids]
    # The end of one token and the beginning of the next.
    place = next(i for i in range(5, 30) if min(len(texts[i]), len(texts[i + 1])) > 2)
    stop = texts[place][-2:] + texts[place + 1][:2]
    for stops in (stop, [stop], ["nowhere to be found", stop]):
        chunks = list(never_ending.stream(IDS, stop=stops, **options))
        stopped = chunks[-1].completion
        assert stopped.finish_reason == "stop"
        assert stopped.text == "".join(c.text for c in chunks) == answer.text.split(stop)[0]
    unstopped = never_ending.generate(IDS, stop="nowhere to be found", **options)
    assert unstopped.text == answer.text


def test_scores_that_are_not_finite_end_the_answer_and_keep_what_came_before(tmp_path):
    model = tiny_gpt2()
    table = model.backbone.position_embedding.position_embeddings
    values = table.numpy()
    values[50] = 3e38  # overflows in the first layer
    table.assign(values)
    with Interpreter(convert(model, tmp_path / "nan.tflite"), threads=1) as opened:
        short = opened.generate(IDS, max_new_tokens=20, stop_token_ids=())
        for _ in range(3):
            completion = opened.generate(IDS, stop_token_ids=())
            assert completion.finish_reason == "error"
            assert "finite" in completion.error
            assert len(completion.token_ids) == 50 - 3
            assert completion.token_ids[:20] == short.token_ids
            assert completion.text.startswith(short.text)
            assert opened.generate(IDS, max_new_tokens=20, stop_token_ids=()).text == short.text
        with pytest.raises(RuntimeFailureError, match="finite"):
            opened.score([7] * 60)
        assert math.isfinite(opened.score([7] * 40).perplexity)


# --- streams, seeds, probabilities, timings ---------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_a_stream_joined_is_the_completion_and_valid_at_every_chunk(never_ending, seed):
    # Random tokens of a byte-level vocabulary: torn characters in every answer.
    sampling = Sampling(temperature=50, seed=seed)
    chunks = list(never_ending.stream(IDS, sampling=sampling))
    completion = chunks[-1].completion
    whole = never_ending.generate(IDS, sampling=sampling)
    assert dataclasses.replace(whole, timings=completion.timings) == completion
    assert "".join(chunk.text for chunk in chunks) == completion.text
    assert completion.text == never_ending.detokenize(completion.token_ids)
    assert [i for chunk in chunks for i in chunk.token_ids] == list(completion.token_ids)
    for chunk in chunks:
        chunk.text.encode("utf-8")
    assert [chunk.finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


def test_seeds_decide_the_answer(never_ending):
    def answer(seed):
        return never_ending.generate(IDS, sampling=Sampling(seed=seed)).token_ids

    assert answer(1) == answer(1)
    assert len({answer(seed) for seed in range(5)}) == 5
    assert answer(None) != answer(None)


def test_logprobs_are_those_of_the_model_before_sampling(never_ending):
    sampling = Sampling(temperature=2, seed=1)
    completion = never_ending.generate(IDS, max_new_tokens=5, logprobs=3, sampling=sampling)
    score = never_ending.score([*IDS, *completion.token_ids])
    for scored, entry, token in zip(
        score.tokens[3:], completion.logprobs, completion.token_ids, strict=True
    ):
        assert entry.token_id == scored.token_id == token
        assert entry.logprob == pytest.approx(scored.logprob, abs=1e-4)
        assert len(entry.top) == 3
        assert [p for _, p in entry.top] == sorted((p for _, p in entry.top), reverse=True)
        assert entry.top[0][1] >= entry.logprob
    greedy = never_ending.generate(IDS, max_new_tokens=5, logprobs=1)
    assert all(entry.top[0] == (entry.token_id, entry.logprob) for entry in greedy.logprobs)
    assert never_ending.generate(IDS, max_new_tokens=1).logprobs is None


def test_a_score_adds_up_and_says_when_it_cannot(interpreter, never_ending):
    score = interpreter.score(PROMPT)
    assert [token.token_id for token in score.tokens] == IDS
    assert score.total_logprob == pytest.approx(sum(t.logprob for t in score.tokens))
    assert score.perplexity == pytest.approx(math.exp(-score.total_logprob / 4))
    assert len(never_ending.score(IDS).tokens) == 3
    assert len(never_ending.score([7] * (CONTEXT + 1)).tokens) == CONTEXT
    with pytest.raises(ContextOverflowError):
        never_ending.score([7] * (CONTEXT + 2))
    with pytest.raises(PromptError, match="two tokens"):
        never_ending.score([7])


def test_timings_add_up(interpreter):
    timings = interpreter.generate(IDS, max_new_tokens=5, stop_token_ids=()).timings
    # The first token comes with the prompt.
    assert (timings.prefill_tokens, timings.decode_tokens) == (4, 4)
    assert 0 < timings.prefill_s == timings.time_to_first_token_s
    assert timings.decode_tokens_per_s == pytest.approx(4 / timings.decode_s)
    assert timings.load_s > 0
    nothing = interpreter.generate(IDS, max_new_tokens=0).timings
    assert nothing.time_to_first_token_s is None
    assert nothing.decode_tokens_per_s == nothing.prefill_tokens_per_s == 0
