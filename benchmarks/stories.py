"""Stories that a float model writes itself, to judge files of it by."""

from __future__ import annotations

import llm_tflite as lt


def told_by(interpreter: lt.Interpreter, start: int, count: int, tokens: int) -> list[list[int]]:
    """Return token ids, the start token included, drawn at temperature 1 with the seeds 0, 1, 2...

    Args:
        interpreter: Of the model in float32.
        start: The token that begins every text.
        count: How many stories.
        tokens: The most that one has.
    """
    stories = []
    for seed in range(count):
        sampling = lt.Sampling(temperature=1.0, seed=seed)
        told = interpreter.generate([start], max_new_tokens=tokens - 1, sampling=sampling)
        stories.append([start, *told.token_ids])
    return stories
