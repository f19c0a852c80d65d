"""What the converter asks of a layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from ..errors import InvalidOptionError
from ..layouts.core import CoreModel
from ..manifest import Manifest, Model, TextFacts
from ..progress import Report
from ..quantization import QuantizationStrategy
from .agreement import Choices


class Plan(Protocol):
    """A layout with its options, checked, for one model.

    Attributes:
        layout: The layout's name.
        suffixes: Endings of the containers that can hold it.
    """

    layout: str
    suffixes: tuple[str, ...]

    def write(
        self, stream: BinaryIO, *, strategy: QuantizationStrategy, report: Report
    ) -> CoreModel:
        """Write the ``.tflite`` form of the model to ``stream``."""

    def facts(self, parameters: int) -> Model:
        """What the manifest says of the model."""

    def text_facts(self) -> TextFacts | None:
        """What the manifest says of the text that goes in and comes out of the graph, if any."""

    def check(self, path: Path, manifest: Manifest, *, lossless: bool) -> dict[str, Any]:
        """Compare the file at ``path`` with the model.

        Raises:
            DisagreementError: It says something else.
        """

    def choices(
        self, path: Path, manifest: Manifest, texts: Sequence[Sequence[int]]
    ) -> list[Choices]:
        """Return what the file at ``path`` chooses on calibration texts, as token ids."""


def checked_length(name: str, value: Any) -> int:
    """Return a number of tokens that the official runtime does not take for something else.

    Raises:
        InvalidOptionError: It is no such number.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOptionError(f"{name} must be a whole number of tokens from 1; got {value!r}")
    # LiteRT-LM takes prime dimensions over 10 for placeholders and replaces them at load.
    if value > 10 and all(value % factor for factor in range(2, int(value**0.5) + 1)):
        raise InvalidOptionError(
            f"{name} is {value}, a prime, which LiteRT-LM reads as a placeholder; pass {value + 1}"
        )
    return value
