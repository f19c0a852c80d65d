"""This library."""

from __future__ import annotations

from time import perf_counter

import numpy as np

from benchmarks.measurement import Measurement, Run, Workload
from llm_tflite.interpreter import Interpreter

DISTRIBUTIONS = ("llm-tflite", "ai-edge-litert")


def measure(path: str, workload: Workload) -> Measurement:
    began = perf_counter()
    interpreter = Interpreter(
        path, threads=workload.threads, context_window=workload.context_length
    )
    load_s = perf_counter() - began
    rng = np.random.default_rng(workload.seed)
    size = interpreter.manifest.model.vocabulary_size
    with interpreter:
        runs = [_run(interpreter, rng, size, workload) for _ in range(1 + workload.runs)]
    return Measurement.of(load_s, runs[1:])


def _run(interpreter: Interpreter, rng: np.random.Generator, size: int, workload: Workload) -> Run:
    timings = interpreter.generate(
        rng.integers(size, size=workload.prompt_tokens),
        max_new_tokens=workload.decode_tokens,
        stop_token_ids=(),
    ).timings
    return Run(timings.prefill_tokens_per_s, timings.decode_tokens_per_s)
