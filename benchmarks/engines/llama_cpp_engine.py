"""llama.cpp through llama-cpp-python, built from source for this very processor."""

from __future__ import annotations

from time import perf_counter

import llama_cpp
import numpy as np

from benchmarks.measurement import Measurement, Run, Workload

DISTRIBUTIONS = ("llama-cpp-python",)


def measure(path: str, workload: Workload) -> Measurement:
    began = perf_counter()
    llama = llama_cpp.Llama(
        path,
        n_ctx=workload.context_length,
        n_batch=512,
        n_ubatch=512,
        n_threads=workload.threads,
        n_threads_batch=workload.threads,
        flash_attn=True,  # as fast or faster than without, on AVX2
        verbose=False,
    )
    load_s = perf_counter() - began
    rng = np.random.default_rng(workload.seed)
    runs = [_run(llama, rng, workload) for _ in range(1 + workload.runs)]
    return Measurement.of(load_s, runs[1:])


def _run(llama: llama_cpp.Llama, rng: np.random.Generator, workload: Workload) -> Run:
    prompt = rng.integers(llama.n_vocab(), size=workload.prompt_tokens).tolist()
    llama.reset()
    began = perf_counter()
    token = _next_token(llama, prompt)
    first = perf_counter()
    for _ in range(workload.decode_tokens - 1):
        token = _next_token(llama, [token])
    ended = perf_counter()
    return Run(
        workload.prompt_tokens / (first - began), (workload.decode_tokens - 1) / (ended - first)
    )


def _next_token(llama: llama_cpp.Llama, tokens: list[int]) -> int:
    # Its sampler chain would only slow it down: the greedy token is the largest logit.
    llama.eval(tokens)
    logits = llama_cpp.llama_get_logits_ith(llama.ctx, -1)
    return int(np.ctypeslib.as_array(logits, (llama.n_vocab(),)).argmax())
