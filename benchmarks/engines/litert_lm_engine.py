"""The official LiteRT-LM runtime, on the very file that this library made.

Its own counters are used: its time to the first token is prefill plus one decode step, like
everybody's here, and its streaming callback comes late.
"""

from __future__ import annotations

from pathlib import Path
from time import perf_counter

import litert_lm
import numpy as np

from benchmarks.measurement import Measurement, Run, Workload

DISTRIBUTIONS = ("litert-lm-api",)


def measure(path: str, workload: Workload, *, weight_cache: bool) -> Measurement:
    litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
    cache_dir = ":nocache"
    if weight_cache:  # packed weights, written in the first round and mapped in the later ones
        folder = Path(path).with_name("litert_lm_cache")
        folder.mkdir(exist_ok=True)
        cache_dir = str(folder)
    began = perf_counter()
    engine = litert_lm.Engine(
        path,
        backend=litert_lm.Backend.CPU(thread_count=workload.threads),
        cache_dir=cache_dir,
        enable_benchmark=True,
    )
    load_s = perf_counter() - began
    rng = np.random.default_rng(workload.seed)
    with engine:
        runs = [_run(engine, rng, workload) for _ in range(1 + workload.runs)]
    return Measurement.of(load_s, runs[1:])


def _run(engine: litert_lm.Engine, rng: np.random.Generator, workload: Workload) -> Run:
    # Always a new prompt: the engine keeps the cache of a prompt that it has seen.
    prompt = _prompt(engine, rng, workload.prompt_tokens)
    with engine.create_session(
        apply_prompt_template=False,
        max_output_tokens=workload.decode_tokens,
        sampler_config=litert_lm.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=1),
    ) as session:
        session.run_prefill([prompt])
        session.run_decode()
        info = session.get_benchmark_info()
    return Run(
        workload.prompt_tokens / info.time_to_first_token_in_second,
        info.last_decode_tokens_per_second,
    )


def _prompt(engine: litert_lm.Engine, rng: np.random.Generator, tokens: int) -> str:
    """Random words that make just ``tokens`` tokens: the engine takes no token ids."""
    words: list[str] = []
    while len(words) < tokens:
        word = engine.detokenize([int(rng.integers(1000, 40000))])
        # Words with a space before them are never joined with their neighbours.
        if word.startswith(" ") and word[1:].isascii() and word[1:].isalpha():
            words.append(word)
    prompt = "".join(words)
    found = len(engine.tokenize(prompt))
    if found != tokens:
        raise RuntimeError(f"expected a prompt of {tokens} tokens, made one of {found}")
    return prompt
