"""Compare our ``generate`` file with the one that TensorFlow's codelab makes of the same model.

GPT-2 124M with the real vocabulary and random weights, the codelab's prompt and its 100 tokens; the
codelab's eight bits (dynamic range) against ours, and against our four. Every measurement is a
process of its own, and the engines take turns.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_tflite.artifact import Artifact
from llm_tflite.tokenizers import Tokenizer

from .arguments import ROOT, add_file_options
from .codelab_workload import MAX_LENGTH, PROMPT, TextMeasurement
from .report import machine

# A text may be cut into other tokens than it was written in, but not into half as many.
_LEAST_TOKENS = MAX_LENGTH // 2


@dataclass(frozen=True)
class Engine:
    """A file in a runtime; ``runtime`` is one of ``codelab_run.RUNTIMES``."""

    name: str
    runtime: str
    path: Path
    python: str


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    folder = options.files.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    theirs, ours = folder / "codelab-8-bit.tflite", folder / "gpt-2-124m-generate-8-bit.tflite"
    smaller = folder / "gpt-2-124m-generate-4-bit.tflite"
    if not options.reuse_files:
        _child(options.codelab_python, "benchmarks.codelab_recipe", str(theirs))
        for quantizer, path in (("dynamic_range", ours), ("int4", smaller)):
            _child(sys.executable, "benchmarks.codelab_ours", f"{quantizer}={path}")
    engines = [
        Engine("llm_tflite in LiteRT", "litert", ours, sys.executable),
        Engine("llm_tflite int4 in LiteRT", "litert", smaller, sys.executable),
        Engine("llm_tflite in TensorFlow", "tensorflow", ours, options.codelab_python),
        Engine("codelab", "codelab", theirs, options.codelab_python),
    ]
    tokenizer = Artifact.open(ours).tokenizer()
    assert tokenizer is not None  # no file of this layout is without one
    report = _compare(engines, tokenizer, options)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "codelab.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.output / "codelab.md").write_text(as_markdown(report))
    print(as_markdown(report))


def as_markdown(report: Mapping[str, Any]) -> str:
    """The medians of a report as a table."""
    workload = report["workload"]
    lines = [
        f"{report['machine']['processor']}, {workload['threads']} threads; GPT-2 124M, "
        f"{workload['max_length']} tokens of prompt and answer; medians of {workload['rounds']} "
        "processes. In brackets: codelab divided by ours, and for file sizes ours divided by the "
        "codelab's.",
        "",
        "| engine | s per text | first text s | load s | peak memory MB | file MB |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name, engine in report["engines"].items():
        median = engine["median"]
        lines.append(
            f"| {name} {engine['version']} "
            f"| {median['text_s']:.2f} ({engine['times_faster']:.2f}) | {median['first_s']:.2f} "
            f"| {median['load_s']:.2f} | {median['peak_memory_bytes'] / 1e6:.0f} "
            f"| {engine['file_bytes'] / 1e6:.1f} ({engine['times_the_size']:.2f}) |"
        )
    return "\n".join(lines) + "\n"


def _compare(
    engines: Sequence[Engine], tokenizer: Tokenizer, options: argparse.Namespace
) -> dict[str, Any]:
    """Measure in turn; the last engine is the one that the others are compared with."""
    rounds: dict[str, list[TextMeasurement]] = {engine.name: [] for engine in engines}
    versions = {}
    for index in range(options.rounds):
        for engine in engines:
            print(f"{index + 1} of {options.rounds}: {engine.name}", file=sys.stderr)
            request = {
                "runtime": engine.runtime,
                "path": str(engine.path),
                "threads": options.threads,
                "runs": options.runs,
            }
            result = json.loads(
                _child(engine.python, "benchmarks.codelab_run", json.dumps(request))
            )
            _check_length(engine, result["text"], tokenizer)
            rounds[engine.name].append(TextMeasurement(**result["measurement"]))
            versions[engine.name] = result["version"]
    medians = {name: TextMeasurement.median(measured) for name, measured in rounds.items()}
    base = engines[-1]
    return {
        "machine": machine(),
        "workload": {
            "prompt": PROMPT,
            "max_length": MAX_LENGTH,
            "threads": options.threads,
            "runs": options.runs,
            "rounds": options.rounds,
        },
        "engines": {
            engine.name: {
                "version": versions[engine.name],
                "file_bytes": engine.path.stat().st_size,
                "times_the_size": engine.path.stat().st_size / base.path.stat().st_size,
                "times_faster": medians[base.name].text_s / medians[engine.name].text_s,
                "median": asdict(medians[engine.name]),
                "rounds": [asdict(measured) for measured in rounds[engine.name]],
            }
            for engine in engines
        },
    }


def _check_length(engine: Engine, text: str, tokenizer: Tokenizer) -> None:
    """An engine that stopped early was not measured."""
    count = len(tokenizer.encode(text))
    if count < _LEAST_TOKENS:
        raise SystemExit(f"{engine.name} wrote {count} tokens; {MAX_LENGTH} were expected")


def _child(python: str, module: str, argument: str) -> str:
    """Run a module in a process of its own and return the last line that it prints."""
    child = subprocess.run(
        [python, "-m", module, argument], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if child.returncode:
        raise SystemExit(f"{module} failed in {python}:\n{child.stderr[-4000:]}")
    return child.stdout.splitlines()[-1] if child.stdout else ""


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.codelab", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="processes per engine")
    parser.add_argument("--runs", type=int, default=3, help="texts per process after the first")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--codelab-python",
        default=str(ROOT / ".codelab-venv" / "bin" / "python"),
        help="the Python that has benchmarks/codelab_requirements.txt and this package installed",
    )
    add_file_options(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
