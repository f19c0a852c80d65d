"""OpenVINO GenAI, which reads the GGUF of a Llama as it is."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import openvino
import openvino_genai

from benchmarks.measurement import Measurement, Run, Workload

DISTRIBUTIONS = ("openvino-genai",)


def measure(path: str, workload: Workload) -> Measurement:
    began = perf_counter()
    # Of its two attention backends SDPA is the faster for one request at a time, and pinned
    # threads only lose when anything else runs on the machine.
    pipeline = openvino_genai.LLMPipeline(
        path,
        "CPU",
        ATTENTION_BACKEND="SDPA",
        INFERENCE_NUM_THREADS=workload.threads,
        ENABLE_CPU_PINNING=False,
    )
    load_s = perf_counter() - began
    rng = np.random.default_rng(workload.seed)
    size = len(pipeline.get_tokenizer().get_vocab())
    runs = [_run(pipeline, rng, size, workload) for _ in range(1 + workload.runs)]
    return Measurement.of(load_s, runs[1:])


def _run(
    pipeline: openvino_genai.LLMPipeline, rng: np.random.Generator, size: int, workload: Workload
) -> Run:
    prompt = openvino.Tensor(rng.integers(size, size=(1, workload.prompt_tokens)))
    config = openvino_genai.GenerationConfig(
        max_new_tokens=workload.decode_tokens, do_sample=False, ignore_eos=True
    )
    metrics = pipeline.generate(prompt, config).perf_metrics
    return Run(
        workload.prompt_tokens * 1000 / metrics.get_ttft().mean, 1000 / metrics.get_tpot().mean
    )
