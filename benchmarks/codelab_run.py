"""One measurement: ``python -m benchmarks.codelab_run REQUEST``; the last line is the result.

REQUEST is JSON: ``runtime``, ``path``, ``threads`` and ``runs``. Nothing but the runtime and NumPy
is imported.
"""

from __future__ import annotations

import importlib.metadata
import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np

from .codelab_workload import PROMPT, TextMeasurement
from .measurement import peak_memory_bytes

Open = Callable[..., Any]


def codelab_interpreter() -> Open:
    from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
    from tensorflow_text import tflite_registrar

    return partial(
        InterpreterWithCustomOps, custom_op_registerers=tflite_registrar.SELECT_TFTEXT_OPS
    )


def tensorflow_interpreter() -> Open:
    import tensorflow as tf

    return partial(tf.lite.Interpreter)


def litert_interpreter() -> Open:
    from ai_edge_litert.interpreter import Interpreter

    return partial(Interpreter)


# Per runtime: what opens a file, and the distribution whose version counts.
RUNTIMES: dict[str, tuple[Callable[[], Open], str]] = {
    "codelab": (codelab_interpreter, "tensorflow"),
    "tensorflow": (tensorflow_interpreter, "tensorflow"),
    "litert": (litert_interpreter, "ai-edge-litert"),
}


def measure(runtime: str, path: str, threads: int, runs: int) -> tuple[TextMeasurement, str]:
    """Return the figures and the text that was written."""
    open_file = RUNTIMES[runtime][0]()
    began = perf_counter()
    interpreter = open_file(model_path=path, num_threads=threads)
    interpreter.allocate_tensors()
    generate = interpreter.get_signature_runner("serving_default")
    load_s = perf_counter() - began
    prompt = _prompt(generate)
    times = []
    for _ in range(1 + runs):
        began = perf_counter()
        text = generate(prompt=prompt)["text"]
        times.append(perf_counter() - began)
    written = bytes(text.item()) if text.dtype == object else text[:-1].tobytes()
    measurement = TextMeasurement(
        load_s, times[0], statistics.median(times[1:]), peak_memory_bytes()
    )
    return measurement, written.decode("utf-8", "replace")


def _prompt(generate: Any) -> Any:
    text = PROMPT.encode()
    if generate.get_input_details()["prompt"]["dtype"] is np.uint8:
        return np.frombuffer(text + b"\0", np.uint8)
    return np.array([text], dtype=object)


if __name__ == "__main__":
    request = json.loads(sys.argv[1])
    measured, written = measure(**request)
    version = importlib.metadata.version(RUNTIMES[request["runtime"]][1])
    print(json.dumps({"measurement": asdict(measured), "text": written, "version": version}))
