"""``llm-tflite evaluate``: say what a file costs and how well it says what the model says."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, TextIO

from ..artifact import Artifact
from ..errors import InvalidOptionError
from .arguments import lines_of
from .keras_model import load_named_model
from .output import print_json, print_safe

SUMMARY = "Measure a file, and compare it with the float model that it was made of."

_FILES = (".litertlm", ".tflite")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("file", help="a .litertlm or .tflite file of this library")
    text = "a .keras file, a KerasHub preset, or a float32 file of this library"
    add("--reference", metavar="MODEL", help=text)
    add_settings(parser)


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add what says how to evaluate, and how to print it."""
    add = parser.add_argument
    add("--text", metavar="FILE", required=True, help="one text per line")
    add("--window", metavar="N", type=int, help="tokens read at once; default: the context")
    add("--greedy-texts", metavar="N", type=int, default=16, help="continued; default: 16")
    add("--greedy-tokens", metavar="N", type=int, default=64, help="of each; default: 64")
    add("--threads", metavar="N", type=int, help="default: 4, or as many as there are")
    add("--runs", metavar="N", type=int, default=3, help="of the speed measurement; default: 3")
    add("--seed", metavar="N", type=int, default=0, help="of its prompts; default: 0")
    add("--markdown", action="store_true", help="print tables of Markdown")
    add("--quiet", action="store_true", help="no progress bar")


def settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return these arguments as ``evaluate`` and ``compare`` take them."""
    names = ("window", "greedy_texts", "greedy_tokens", "threads", "runs", "seed")
    values = {name: getattr(options, name) for name in names}
    if options.json and options.markdown:
        raise InvalidOptionError("expected --json or --markdown; got both")
    return values | {"text": lines_of(options.text), "progress": not options.quiet}


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Print the report; returns the exit code."""
    from ..evaluation.evaluate import evaluate

    given = settings(options)
    artifact = Artifact.open(options.file)  # refused now rather than after a model is loaded
    reference = options.reference
    if reference is not None and Path(reference).suffix not in _FILES:
        reference = load_named_model(reference)
    print_result(evaluate(artifact, reference=reference, **given), options, out)
    return 0


def print_result(result: Any, options: argparse.Namespace, out: TextIO) -> None:
    """Print a report or a comparison in the form that was asked for."""
    if options.json:
        print_json(result.to_dict(), out)
    else:
        print_safe(result.to_markdown() if options.markdown else str(result), out)
