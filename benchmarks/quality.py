"""What each quantizer takes from a real model: ``python -m benchmarks.quality``.

The model, stories15M, knows children's stories only, so it is judged on stories that it wrote
itself, in float32 and at temperature 1. The figures go to ``benchmarks/results/quality.json``, the
page to ``docs/quantization.md`` and the plot to ``docs/quantization.png``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import llm_tflite as lt
from llm_tflite.demo.llama2c import load_llama2c
from llm_tflite.demo.material import STORIES15M, fetch
from llm_tflite.errors import UnknownPluginNameError
from llm_tflite.plugins import load_plugins

from .plain_four_bits import RoundToNearest, WithoutTexts
from .quality_page import as_page
from .report import machine
from .stories import told_by

_ROOT = Path(__file__).resolve().parents[1]
# Asked for beside the built-in ones; a name that no plugin of this version offers is left out, and
# the page says so.
PARAMETERISED = ("mixed:0.9",)
_STORY_TOKENS = 64
# Fewer say too little of the 768 columns of a matrix: docs/measurements.md.
_CALIBRATION_STORIES = 128
_THREADS = 2


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    model = load_llama2c(fetch(STORIES15M))
    stories = _stories(model, options.stories + _CALIBRATION_STORIES)
    asked = list(dict.fromkeys([*_built_in(), *PARAMETERISED]))
    unknown = [name for name in asked if not _is_known(name)]
    aliases = _aliases([name for name in asked if name not in unknown])
    comparison = lt.compare(
        model,
        [
            *(name for name in asked if name not in unknown and name not in aliases),
            WithoutTexts(),
            RoundToNearest(),
        ],
        text=stories[: options.stories],
        calibration=stories[options.stories :],
        threads=_THREADS,
        progress=_log,
    )
    report: dict[str, Any] = {
        "machine": machine(),
        "story_tokens": _STORY_TOKENS,
        "calibration_stories": _CALIBRATION_STORIES,
        "threads": _THREADS,
        "unknown": unknown,
        "aliases": aliases,
        "comparison": comparison.to_dict(),
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "quality.json").write_text(json.dumps(report, indent=2) + "\n")
    page = as_page(comparison, report)
    options.page.write_text(page, encoding="utf-8")
    comparison.plot(options.page.with_suffix(".png"))
    print(page)


def _stories(model: Any, count: int) -> list[list[int]]:
    """Stories of the float model as token ids, the start token included."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "float32.tflite"
        artifact = lt.Converter(model, quantizer="none").convert(path)
        start = artifact.manifest.tokens.start
        with lt.Interpreter(path, threads=_THREADS) as interpreter:
            return told_by(interpreter, start, count, _STORY_TOKENS)


def _built_in() -> list[str]:
    # Recipes of ai-edge-quantizer are many, and some are one under two names.
    return [
        name
        for plugin in lt.plugins()
        if plugin.distribution == "llm-tflite"
        for name in plugin.provides.get("quantizers", [])
        if name.partition(":")[0] != "aeq"
    ]


def _is_known(name: str) -> bool:
    try:
        load_plugins().quantizer(name)
    except UnknownPluginNameError:
        return False
    return True


def _aliases(names: Sequence[str]) -> dict[str, str]:
    """Names that mean the same as one before them, and that one."""
    seen: dict[str, str] = {}
    aliases = {}
    for name in names:
        strategy = load_plugins().quantizer(name)
        known = seen.setdefault(f"{type(strategy)} {dict(strategy.describe())}", name)
        if known != name:
            aliases[name] = known
    return aliases


def _log(step: lt.Progress) -> None:
    if step.done == 0:
        print(step.stage, file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.quality", description=__doc__)
    parser.add_argument("--stories", type=int, default=200, help="that perplexity is measured on")
    parser.add_argument("--page", type=Path, default=_ROOT / "docs" / "quantization.md")
    parser.add_argument("--output", type=Path, default=_ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
