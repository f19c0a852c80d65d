"""``llm-tflite compare``: convert a model with several quantizers and compare what came out."""

from __future__ import annotations

import argparse
from typing import TextIO

from .arguments import lines_of, names, numbers, path_ending
from .evaluate import add_settings, print_result, settings
from .keras_model import load_named_model

SUMMARY = "Compare quantizers of one model: size, speed, memory and what is lost."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("model", help="a .keras file, or a KerasHub preset, or a folder with one")
    text = "such as none,dynamic_range,int4; see llm-tflite plugins"
    add("--quantizers", metavar="NAME,NAME,...", type=names, required=True, help=text)
    text = "one text per line, for a quantizer that measures activations"
    add("--calibration", metavar="FILE", help=text)
    add("--context-length", metavar="N", type=int, help="tokens of prompt and answer together")
    add("--prefill-lengths", metavar="N,N,...", type=numbers, help="for example 8,32,128")
    text = "draw perplexity against size; replaces a file that is there"
    add("--plot", metavar="FILE", type=path_ending(".png"), help=text)
    add_settings(parser)


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Print the table; returns the exit code, 1 if a quantizer failed."""
    from ..evaluation.compare import compare
    from ..evaluation.plot import check_plots
    from ..files import check_target

    given = settings(options)
    if options.plot is not None:  # refused now rather than after the work
        check_plots()
        check_target(options.plot, overwrite=True)
    calibration = None if options.calibration is None else lines_of(options.calibration)
    comparison = compare(
        load_named_model(options.model),
        options.quantizers,
        calibration=calibration,
        context_length=options.context_length,
        prefill_lengths=options.prefill_lengths,
        **given,
    )
    print_result(comparison, options, out)
    if options.plot is not None and comparison.reports:
        comparison.plot(options.plot)
    return 1 if comparison.errors else 0
