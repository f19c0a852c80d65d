from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_tflite.chunk_plan import ChunkStep, plan_chunks, plan_whole

LADDER = (1, 8, 32, 128, 512)


@given(data=st.data())
def test_a_plan_covers_exactly_the_tokens_and_never_passes_the_end(data: st.DataObject) -> None:
    capacity = data.draw(st.integers(1, 3000))
    count = data.draw(st.integers(0, capacity))
    lengths = {1} | data.draw(st.sets(st.integers(1, capacity), max_size=5))
    steps = plan_chunks(count, lengths=lengths, capacity=capacity)
    assert sum(step.count for step in steps) == count
    position = 0
    for step in steps:
        assert step.start == position
        assert step.length in lengths
        assert 1 <= step.count <= step.length
        assert step.start + step.length <= capacity
        position += step.count
    assert all(step.count == step.length for step in steps[:-1])


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (1, [1]),
        (7, [8]),
        (40, [32, 8]),
        (100, [128]),
        (130, [128, 8]),
        (512, [512]),
        (1000, [512, 512]),
        (1024, [512, 512]),
    ],
)
def test_the_plan_is_the_fast_one(count: int, expected: list[int]) -> None:
    steps = plan_chunks(count, lengths=LADDER, capacity=1024)
    assert [step.length for step in steps] == expected


def test_pads_that_would_pass_the_end_become_smaller_calls() -> None:
    assert plan_chunks(38, lengths=(1, 16, 32), capacity=40) == [
        ChunkStep(0, 32, 32),
        *(ChunkStep(start, 1, 1) for start in range(32, 38)),
    ]


@given(count=st.integers(0, 60), slack=st.integers(0, 20))
def test_no_other_choice_of_calls_is_cheaper(count: int, slack: int) -> None:
    lengths = (1, 8, 20, 32)
    steps = plan_chunks(count, lengths=lengths, capacity=count + slack)
    cost = sum(16 + step.length for step in steps)
    for calls in itertools.product(range(count + 1), range(9), range(4), range(3)):
        total = sum(n * length for n, length in zip(calls, lengths, strict=True))
        if count <= total <= count + slack:
            assert cost <= sum(calls) * 16 + total


@pytest.mark.parametrize(("count", "length"), [(1, 1), (2, 8), (8, 8), (9, 32), (512, 512)])
def test_a_prompt_that_must_not_be_cut_is_read_by_the_smallest_call(
    count: int, length: int
) -> None:
    assert plan_whole(count, lengths=LADDER) == [ChunkStep(0, count, length)]


def test_nothing_takes_no_call() -> None:
    assert plan_whole(0, lengths=LADDER) == []
