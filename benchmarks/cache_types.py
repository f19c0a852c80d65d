"""What the types of a cache cost: ``python -m benchmarks.cache_types``.

Speed and memory are those of four layers of a Llama with random int8 weights, at the end of a text
of each length, in processes of their own that take turns. Perplexity is that of stories15M on
stories that it wrote itself, in float32 and at temperature 1. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import llm_tflite as lt
from llm_tflite.cache_types import CACHE_TYPES
from llm_tflite.demo.llama2c import load_llama2c
from llm_tflite.demo.material import STORIES15M, fetch
from llm_tflite.demo.shapes import randomize

from .report import machine
from .stories import told_by

_NEW_TOKENS = 32
_STORY_TOKENS = 256
_VOCABULARY = 16_000
# Width, that of the MLP, query heads, key-value heads: GPT-2's layers, and SmolLM2's.
_SHAPES = {"12 heads of their own": (768, 3072, 12, 12), "9 heads on 3": (576, 1536, 9, 3)}


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    if options.measure:
        print(json.dumps(_measured(options.measure, options.lengths[0], options.threads)))
        return
    with tempfile.TemporaryDirectory() as folder:
        report: dict[str, Any] = {"machine": machine(), "speed": {}}
        for name in options.shapes:
            report["speed"][name] = _speed(name, Path(folder), options)
        if options.stories:
            report["perplexity"] = _perplexity(Path(folder), options.stories, options.threads)
    print(json.dumps(report, indent=2))


def _speed(name: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    model, paths, bytes_ = _llama(*_SHAPES[name]), {}, {}
    for dtype in CACHE_TYPES:
        paths[dtype] = folder / f"{dtype}.tflite"
        converter = lt.Converter(
            model,
            context_length=max(options.lengths),
            prefill_lengths=(8, 128),
            cache_dtype=dtype,
        )
        artifact = converter.convert(paths[dtype], overwrite=True)
        bytes_[dtype] = artifact.manifest.cache_bytes
        print(name, dtype, artifact.manifest.check["greedy"], file=sys.stderr)
    del model
    figures: dict[str, Any] = {"cache_bytes": bytes_}
    for length in options.lengths:
        runs: dict[str, list[Any]] = {dtype: [] for dtype in CACHE_TYPES}
        for _ in range(options.runs):
            for dtype in CACHE_TYPES:
                runs[dtype].append(_in_a_child(paths[dtype], length, options.threads))
        figures[str(length)] = {
            dtype: {
                "prefill_tokens_per_s": max(run["prefill"] for run in found),
                "decode_tokens_per_s": max(run["decode"] for run in found),
                "peak_bytes": min(run["peak_bytes"] for run in found),
            }
            for dtype, found in runs.items()
        }
        print(name, length, figures[str(length)], file=sys.stderr)
    return figures


def _llama(width: int, inner: int, heads: int, kv_heads: int) -> Any:
    import keras_hub

    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=_VOCABULARY,
        num_layers=4,
        num_query_heads=heads,
        num_key_value_heads=kv_heads,
        hidden_dim=width,
        intermediate_dim=inner,
        tie_word_embeddings=True,
    )
    return randomize(keras_hub.models.LlamaCausalLM(backbone, preprocessor=None), seed=0)


def _in_a_child(path: Path, length: int, threads: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.cache_types", "--measure", str(path)]
    command += ["--lengths", str(length), "--threads", str(threads)]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(child.stdout.splitlines()[-1])
    return found


def _measured(path: str, length: int, threads: int) -> dict[str, float]:
    prompt = np.random.default_rng(0).integers(0, _VOCABULARY, length - _NEW_TOKENS).tolist()
    with lt.Interpreter(path, threads=threads) as interpreter:
        done = interpreter.generate(prompt, max_new_tokens=_NEW_TOKENS, stop_token_ids=())
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM"))
    return {
        "prefill": done.timings.prefill_tokens_per_s,
        "decode": done.timings.decode_tokens_per_s,
        "peak_bytes": int(peak) * 1024,
    }


def _perplexity(folder: Path, count: int, threads: int) -> dict[str, Any]:
    model, figures = load_llama2c(fetch(STORIES15M)), {}
    stories: list[list[int]] = []
    for quantizer in ("none", "dynamic_range"):
        for dtype in CACHE_TYPES:
            path = folder / "stories.tflite"
            converter = lt.Converter(model, quantizer=quantizer, cache_dtype=dtype)
            artifact = converter.convert(path, overwrite=True)
            with lt.Interpreter(path, threads=threads) as interpreter:
                start = artifact.manifest.tokens.start
                stories = stories or told_by(interpreter, start, count, _STORY_TOKENS)
                scores = [interpreter.score(story) for story in stories]
            total = sum(score.total_logprob for score in scores)
            mean = total / sum(len(score.tokens) for score in scores)
            figures[f"{quantizer}, {dtype}"] = {
                "perplexity": float(np.exp(-mean)),
                "check": artifact.manifest.check["greedy"],
                "cache_bytes": artifact.manifest.cache_bytes,
            }
            print(quantizer, dtype, figures[f"{quantizer}, {dtype}"], file=sys.stderr)
    return figures


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cache_types", description=__doc__)
    parser.add_argument("--shapes", nargs="*", choices=_SHAPES, default=list(_SHAPES))
    parser.add_argument("--lengths", nargs="+", type=int, default=[256, 1024, 4096])
    parser.add_argument(
        "--stories", type=int, default=60, help="that perplexity is measured on, or 0"
    )
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--measure", metavar="FILE", help="one run, for the program itself")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
