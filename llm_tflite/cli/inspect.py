"""``llm-tflite inspect``: say what a file holds."""

from __future__ import annotations

import argparse
from typing import TextIO

from .output import print_json, print_safe

SUMMARY = "Say what a file holds, without running it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument("file", help="a .litertlm or .tflite file of any origin")
    parser.add_argument("--verify", action="store_true", help="compare every byte with its digest")


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Print the inspection; returns the exit code."""
    from ..inspection import inspect

    inspection = inspect(options.file, verify=options.verify)
    if options.json:
        print_json(inspection.to_dict(), out)
    else:
        print_safe(str(inspection), out)
    return 1 if inspection.digests == "mismatch" else 0
