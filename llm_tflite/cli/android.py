"""``llm-tflite android``: put a model into the Android app."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

from .output import print_json, print_safe

if TYPE_CHECKING:
    from ..android import Placement

SUMMARY = "Put a model into the Android app, if the app can run it."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("file", help="a .tflite or .litertlm file of this library")
    add("--app", metavar="FOLDER", required=True, help="the Android project, such as android_app")
    add("--overwrite", action="store_true", help="replace the model that is there")


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Copy the model and say what to do next; returns the exit code."""
    from ..android import place

    placement = place(options.file, options.app, overwrite=options.overwrite)
    if options.json:
        inspection = placement.inspection
        print_json(
            {
                "path": str(placement.path),
                "size_bytes": inspection.size_bytes,
                "memory_bytes": placement.memory_bytes,
                "layout": inspection.manifest.layout if inspection.manifest else None,
                "runtime": str(placement.runtime) if placement.runtime else None,
                "replaced": list(placement.replaced),
            },
            out,
        )
    else:
        print_safe("\n".join(_lines(placement, options.app)), out)
    return 0


def _lines(placement: Placement, app: str) -> Iterator[str]:
    manifest, size = placement.inspection.manifest, placement.inspection.size_bytes
    yield str(placement.path)
    if manifest is not None:
        model = manifest.model
        yield (
            f"  model    {model.class_}, {model.parameters:,} parameters, "
            f"{manifest.quantization.strategy}, {model.context_length:,} tokens, {manifest.layout}"
        )
    yield f"  size     {size:,} bytes; at least {placement.memory_bytes:,} bytes of memory"
    yield f"  runtime  {placement.runtime or 'not named in the version catalog, so not checked'}"
    if placement.replaced:
        yield f"  instead of {', '.join(placement.replaced)}"
    yield (
        f"Next: open {app} in Android Studio and run 'app'; its README.md says how to do without."
    )
