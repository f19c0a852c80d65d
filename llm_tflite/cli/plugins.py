"""``llm-tflite plugins``: list the installed plugins."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TextIO

from .output import print_json, print_safe

SUMMARY = "List the installed plugins, what they provide and what failed."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add nothing: the command takes no arguments of its own."""


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Print the plugins; returns the exit code."""
    from ..plugins import plugins

    infos = plugins()
    if options.json:
        print_json({"plugins": [dataclasses.asdict(info) for info in infos]}, out)
    for info in () if options.json else infos:
        print_safe(str(info), out)
        for kind, names in info.provides.items():
            print_safe(f"  {kind}: {', '.join(names)}", out)
        if info.error:
            print_safe(f"  error: {info.error}", out)
    return 0
