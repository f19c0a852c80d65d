from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_tflite.errors import InvalidOptionError
from llm_tflite.sampling import Sampler, Sampling, log_probabilities, top_tokens

LOGITS = np.log(np.array([0.05, 0.4, 0.25, 0.2, 0.1], np.float32))


def draws(sampling, logits=LOGITS, count=4000, prompt=()):
    sampler = Sampler(sampling, prompt)
    return [sampler.pick(logits) for _ in range(count)]


@pytest.mark.parametrize(
    "options",
    [
        *({"temperature": value} for value in (-1, math.inf, math.nan, True, "hot", None)),
        *({"top_k": value} for value in (0, -1, 1.5, True)),
        *({"top_p": value} for value in (0, 1.1, -0.1, math.nan)),
        *({"min_p": value} for value in (-0.1, 1.1)),
        *({"repetition_penalty": value} for value in (0, -1, math.inf)),
        *({"seed": value} for value in (-1, 2**64, 1.0, True)),
    ],
)
def test_impossible_options_are_refused_by_name(options):
    with pytest.raises(InvalidOptionError, match=next(iter(options))):
        Sampling(**options)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling.greedy(),
        Sampling(temperature=1e-9, seed=1),
        Sampling(temperature=5e-324, seed=1),
        Sampling(top_k=1, seed=1),
        Sampling(top_p=1e-9, seed=1),
        Sampling(min_p=1.0, seed=1),
    ],
)
def test_the_narrowest_options_take_the_best_token(sampling):
    assert set(draws(sampling, count=50)) == {1}


def test_without_filters_tokens_come_as_often_as_the_model_says():
    shares = np.bincount(draws(Sampling(seed=7)), minlength=5) / 4000
    np.testing.assert_allclose(shares, np.exp(LOGITS), atol=0.03)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"top_k": 2}, {1, 2}),
        ({"top_k": 99}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.6}, {1, 2}),
        ({"top_p": 0.7}, {1, 2, 3}),
        ({"min_p": 0.3}, {1, 2, 3}),
        ({"top_k": 3, "top_p": 0.4}, {1}),  # of the three kept, the first has 0.47
    ],
)
def test_filters_keep_exactly_the_tokens_they_promise(options, tokens):
    assert set(draws(Sampling(seed=3, **options))) == tokens


def test_equal_scores_are_kept_in_the_order_of_their_ids():
    flat = np.zeros(1000, np.float32)
    assert draws(Sampling.greedy(), flat, 1) == [0]
    assert top_tokens(flat, 5).tolist() == [0, 1, 2, 3, 4]
    assert set(draws(Sampling(top_k=3, seed=0), flat, 200)) == {0, 1, 2}
    assert set(draws(Sampling(top_p=0.003, seed=0), flat, 200)) == {0, 1, 2}


def test_the_same_seed_gives_the_same_tokens_today_and_tomorrow():
    assert draws(Sampling(seed=5), count=12) == draws(Sampling(seed=5), count=12)
    assert draws(Sampling(seed=5), count=50) != draws(Sampling(seed=6), count=50)
    assert draws(Sampling(), count=50) != draws(Sampling(), count=50)
    golden = [1, 2, 2, 1, 1, 3, 4, 1, 2, 1, 4, 4]
    assert draws(Sampling(seed=2026), count=12) == golden


def test_the_repetition_penalty_covers_the_prompt_and_the_answer():
    logits = np.array([2.0, 1.9, -1.0], np.float32)
    assert draws(Sampling(temperature=0, repetition_penalty=1.5), logits, 3) == [0, 1, 0]
    assert draws(Sampling(temperature=0, repetition_penalty=1.5), logits, 1, prompt=[0]) == [1]
    assert logits.tolist() == pytest.approx([2.0, 1.9, -1.0])


@pytest.mark.parametrize("bad", [[math.nan, 1], [math.inf, 1], [-math.inf, -math.inf]])
@pytest.mark.parametrize("sampling", [Sampling.greedy(), Sampling(top_k=1, seed=0)])
def test_scores_without_a_finite_best_are_an_error(bad, sampling):
    with pytest.raises(FloatingPointError):
        draws(sampling, np.array(bad, np.float32), 1)


def test_a_token_that_is_ruled_out_is_never_drawn():
    logits = np.array([0, -np.inf, 0, -np.inf], np.float32)
    assert set(draws(Sampling(temperature=100, seed=1), logits)) == {0, 2}


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=50))
def test_log_probabilities_are_those_of_a_distribution(values):
    result = log_probabilities(np.array(values, np.float32))
    assert math.fsum(np.exp(result)) == pytest.approx(1)
    assert result[np.argmax(values)] == result.max()
