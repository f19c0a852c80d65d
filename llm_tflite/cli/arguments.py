"""What arguments of the command line mean."""

from __future__ import annotations

import argparse
import dataclasses
import re
from collections.abc import Callable
from pathlib import Path

from ..errors import InvalidOptionError
from ..files import open_regular
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


def names(text: str) -> list[str]:
    """Read names, separated by commas."""
    found = [name.strip() for name in text.split(",")]
    if not all(found):
        raise argparse.ArgumentTypeError(f"expected names separated by commas; got {text[:80]!r}")
    return found


def lines_of(path: str) -> list[str]:
    """Read texts from a file, one in each line.

    Raises:
        ArtifactNotFoundError: There is no such file.
        InvalidOptionError: It is no text, or empty.
    """
    with open_regular(path) as stream:
        try:
            text = stream.read().decode("utf-8")
        except UnicodeDecodeError as e:
            raise InvalidOptionError(f"{path} must hold texts in UTF-8; {e}") from e
    texts = [line.rstrip("\r") for line in text.split("\n") if line.strip()]
    if not texts:
        raise InvalidOptionError(f"{path} must hold one text per line; it has none")
    return texts


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
