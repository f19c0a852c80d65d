"""What converting a model costs: ``python -m benchmarks.conversion gpt2-xl``.

Prints JSON: seconds, bytes of the file, and the peak of the process's memory above what it was with
the Keras model loaded, the check and its runtime included. Linux only: the peak is the kernel's.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import llm_tflite as lt
from llm_tflite.demo import shapes
from llm_tflite.runtime import return_freed_memory

SHAPES: dict[str, Callable[[], Any]] = {"gpt2-124m": shapes.gpt2_124m, "gpt2-xl": shapes.gpt2_xl}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.conversion", description=__doc__)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("--quantizer", default="dynamic_range")
    parser.add_argument("--dtype", default="float32", help="the Keras model's policy")
    options = parser.parse_args(arguments)
    model = SHAPES[options.shape](dtype=options.dtype)
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(measure(model, options.quantizer, Path(folder) / "m.litertlm"), indent=2))


def measure(model: Any, quantizer: str, path: Path) -> dict[str, Any]:
    return_freed_memory()
    loaded = _memory_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    began = perf_counter()
    artifact = lt.Converter(model, quantizer=quantizer).convert(path)
    seconds = perf_counter() - began
    peak = _memory_bytes("VmHWM") - loaded
    with lt.Interpreter(path) as interpreter:
        tokens = interpreter.generate([1, 2, 3], max_new_tokens=16, stop_token_ids=()).token_ids
    return {
        "seconds": round(seconds, 1),
        "peak_above_model_bytes": peak,
        "model_bytes": loaded,
        "file_bytes": artifact.size_bytes,
        "bytes_per_parameter": artifact.size_bytes / artifact.manifest.model.parameters,
        "tokens": tokens,
    }


def _memory_bytes(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"the kernel does not tell {field}")


if __name__ == "__main__":
    main()
