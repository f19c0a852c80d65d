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
from ..tokenizer_assets import TokenizerAsset
from ..tokenizers import load_tokenizer
from ..tracing import cached_paths, prefix
from ..tracing.requirements import position_limit
from ..tracing.unseen_image import UnseenImage
from .agreement import Choices

_DEFAULT_LENGTH = 1024
_SAMPLE_TEXT = "The river runs past the old mill, and in the evening the people of the town"


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


def default_length(model: Any) -> int:
    """How many tokens a file takes where nobody says: what the model takes, up to 1024."""
    return min(position_limit(model) or _DEFAULT_LENGTH, _DEFAULT_LENGTH)


def sample_prompt(asset: TokenizerAsset | None) -> list[int]:
    """Natural text as token ids, the way that the Interpreter would feed it."""
    if asset is None:
        return []
    start = [] if asset.start is None else [asset.start]
    return start + load_tokenizer(asset.kind, asset.data).encode(_SAMPLE_TEXT)


def keras_differences(model: Any) -> dict[str, Any]:
    """What a manifest tells besides the figures of a check: nothing, for most models."""
    notes = ["text only: this file takes no images"] if UnseenImage.of(model) else []
    notes += cached_paths.differences(model) + prefix.differences(model)
    return {"notes": notes} if notes else {}


def whole_number(name: str, value: object, least: int) -> int:
    """Return a number of tokens.

    Raises:
        InvalidOptionError: It is no whole number from ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidOptionError(
            f"{name} must be a whole number of tokens from {least}; got {value!r}"
        )
    return value


def checked_length(name: str, value: object) -> int:
    """Return a number of tokens that the official runtime does not take for something else.

    Raises:
        InvalidOptionError: It is no such number.
    """
    length = whole_number(name, value, 1)
    # LiteRT-LM takes prime dimensions over 10 for placeholders and replaces them at load.
    if length > 10 and all(length % factor for factor in range(2, int(length**0.5) + 1)):
        raise InvalidOptionError(
            f"{name} is {length}, a prime, which LiteRT-LM reads as a placeholder; pass "
            f"{length + 1}"
        )
    return length
