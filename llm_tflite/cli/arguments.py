"""What arguments of the command line mean."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from ..sampling import Sampling


def path_ending(*suffixes: str) -> Callable[[str], str]:
    """Return a check that a path has one of these endings."""

    def check(text: str) -> str:
        if Path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(
                f"expected a path that ends in {' or '.join(suffixes)}; got {text!r}"
            )
        return text

    return check


def numbers(text: str) -> list[int]:
    """Read whole numbers, separated by commas or spaces."""
    try:
        return [int(number) for number in re.split(r"[,\s]+", text.strip())]
    except ValueError as e:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas; got {text[:80]!r}"
        ) from e


def sampling(options: argparse.Namespace) -> Sampling | None:
    """Return what the arguments say of how tokens are chosen; None if they say nothing."""
    names = [field.name for field in dataclasses.fields(Sampling)]
    values = {name: getattr(options, name, None) for name in names}
    given = {name: value for name, value in values.items() if value is not None}
    if given.keys() == {"repetition_penalty"}:  # the others are about drawing
        given["temperature"] = 0.0
    return Sampling(**given) if given else None
