"""``llm-tflite convert``: turn a Keras model into one file."""

from __future__ import annotations

import argparse
import json
from time import perf_counter
from typing import Any, TextIO

from ..cache_types import CACHE_TYPES
from ..converter import LAYOUT_OPTIONS, Converter, check_options
from ..files import check_target
from ..plugins import load_plugins
from .arguments import lines_of, numbers, path_ending, sampling
from .keras_model import load_keras_model
from .output import print_json

SUMMARY = "Turn a Keras model into one file."

_N: dict[str, Any] = {"metavar": "N", "type": int}
_NUMBERS: dict[str, Any] = {"metavar": "N,N,...", "type": numbers}
# For each option of a layout: its argument and what that means.
_LAYOUT_ARGUMENTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("context_length", "--context-length", "tokens of prompt and answer together", _N),
    ("prefill_lengths", "--prefill-lengths", "for example 8,32,128", _NUMBERS),
    ("cache_dtype", "--cache-dtype", "default: float32", {"choices": CACHE_TYPES}),
    ("max_length", "--max-length", "tokens of the whole text", _N),
    ("text", "--text", "in and out; default: bytes", {"choices": ("bytes", "string")}),
    ("sampling", "--top-k", "draw from the N best tokens; default: 1", _N),
    ("sampling", "--temperature", "of drawing; default: 1", {"metavar": "X", "type": float}),
]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--preset", metavar="NAME", help="a KerasHub preset, or a folder with one")
    source.add_argument(
        "--keras", metavar="FILE", type=path_ending(".keras"), help="a model that Keras saved"
    )
    ending = path_ending(".litertlm", ".tflite")
    add("-o", "--output", metavar="FILE", type=ending, required=True, help="where to")
    add("--quantizer", metavar="NAME", default="dynamic_range", help="see llm-tflite plugins")
    text = "one text per line, for a quantizer that measures activations"
    add("--calibration", metavar="FILE", help=text)
    text = "whose tokens text becomes; default: %(default)s"
    add("--tokenization", choices=("keras", "original"), default="keras", help=text)
    add("--layout", choices=LAYOUT_OPTIONS, default="prefill_decode", help="default: %(default)s")
    for option, flag, text, form in _LAYOUT_ARGUMENTS:
        layouts = [layout for layout, names in LAYOUT_OPTIONS.items() if option in names]
        add(flag, help=f"({', '.join(layouts)}) {text}", **form)
    add("--overwrite", action="store_true", help="replace an existing file")
    add("--quiet", action="store_true", help="no progress bar and no summary")


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Convert, and print what came out; returns the exit code."""
    # Refused now rather than after the model is downloaded and loaded.
    given = _given(options)
    check_options(options.layout, given)
    check_target(options.output, overwrite=options.overwrite)
    load_plugins().quantizer(options.quantizer)
    if options.calibration is not None:
        given["calibration"] = lines_of(options.calibration)
    model = load_keras_model(preset=options.preset, path=options.keras)

    began = perf_counter()
    converter = Converter(
        model,
        layout=options.layout,
        quantizer=options.quantizer,
        tokenization=options.tokenization,
        **given,
    )
    artifact = converter.convert(
        options.output, overwrite=options.overwrite, progress=not options.quiet
    )
    seconds = perf_counter() - began
    if options.json:
        manifest = json.loads(artifact.manifest.to_bytes())
        facts = {"path": options.output, "size_bytes": artifact.size_bytes, "seconds": seconds}
        print_json(facts | {"manifest": manifest}, out)
    elif not options.quiet:
        each = artifact.size_bytes / artifact.manifest.model.parameters
        size = f"{artifact.size_bytes:,} bytes, {each:.3f} for each parameter"
        print(f"{options.output}: {size}; {seconds:.1f} s", file=out)
    return 0


def _given(options: argparse.Namespace) -> dict[str, Any]:
    """The options of layouts that the command line names, whichever layout has them."""
    names = {option for option, *_ in _LAYOUT_ARGUMENTS} - {"sampling"}
    values = {name: getattr(options, name) for name in names} | {"sampling": sampling(options)}
    return {name: value for name, value in values.items() if value is not None}
