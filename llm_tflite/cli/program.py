"""Runs one command line and says how it ended.

Standard output carries the result and nothing else: text, or one JSON document with ``--json``.
Progress, figures and messages go to standard error. Exit codes: 0 done, 1 refused or failed,
2 wrong usage, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import sys
from collections.abc import Sequence
from typing import NoReturn, TextIO

from .._version import __version__
from ..errors import LLMTFLiteError
from . import android, compare, convert, evaluate, generate, inspect, plugins
from .output import print_json, print_safe

_FAILED, _USAGE, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141


class _UsageError(Exception):
    """The command line is not one that we know; the text holds the usage too."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{self.format_usage()}{self.prog}: error: {message}")


def main() -> NoReturn:
    """Run the command of this process and end it."""
    code = run(sys.argv[1:])
    # At the very end the runtime reports what it frees, and nobody is left to catch that.
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError):
        os.dup2(nowhere.fileno(), 2)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # an answer may hold what the terminal cannot show
    try:
        code = _run(arguments, out)
        out.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return _BROKEN_PIPE
    return code


def _run(arguments: Sequence[str], out: TextIO) -> int:
    try:
        options = _parser().parse_args(arguments)
        # Plugins, Keras and progress bars that print must not spoil the result.
        with contextlib.redirect_stdout(sys.stderr):
            code: int = options.run(options, out)
        return code
    except _UsageError as e:
        code, kind, message = _USAGE, "UsageError", str(e)
    except LLMTFLiteError as e:
        code, kind, message = _FAILED, type(e).__name__, str(e)
    except KeyboardInterrupt:
        code, kind, message = _INTERRUPTED, "KeyboardInterrupt", "interrupted"
    # Messages speak to callers of the library.
    message = re.sub(r"\b(overwrite|trim_prompt|calibration)=(True|\[\.{3}\])", _as_option, message)
    if "--json" in arguments:
        print_json({"error": {"type": kind, "message": message}}, out)
    else:
        prefix = "" if code == _USAGE else "\n" if code == _INTERRUPTED else "error: "
        print_safe(prefix + message, sys.stderr)
    return code


def _as_option(argument: re.Match[str]) -> str:
    return "--" + argument[1].replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="llm-tflite",
        description="Turn a Keras language model into one small file, and let it talk.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")
    for module in (convert, generate, evaluate, compare, inspect, android, plugins):
        name, text = module.__name__.rpartition(".")[2], module.SUMMARY
        command = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        command.add_argument("--json", action="store_true", help="print one JSON document")
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser
