"""The plan of the ``forward`` layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..layouts.core import CoreModel
from ..layouts.forward import write_forward
from ..manifest import Manifest, Model
from ..progress import Report
from ..quantization import QuantizationStrategy
from ..tokenizer_assets import TokenizerAsset
from ..tracing.requirements import check_context, check_inputs, vocabulary_size
from .agreement import Choices
from .check_forward import check_forward, choices_of_forward
from .plan import default_length, sample_prompt, whole_number


class ForwardPlan:
    """One call over a whole text, tokens in and the logits of every position out."""

    layout = "forward"
    suffixes = (".tflite",)

    def __init__(
        self, model: Any, tokenizer: TokenizerAsset | None, *, max_length: int | None = None
    ) -> None:
        """Choose what was not given; see ``Converter``."""
        check_inputs(model)
        if max_length is None:
            preprocessor = getattr(model, "preprocessor", None)
            max_length = preprocessor.sequence_length if preprocessor else default_length(model)
        self._max_length = whole_number("max_length", max_length, 1)
        check_context(model, "max_length", max_length)
        self._model = model
        self._tokenizer = tokenizer

    def write(
        self, stream: BinaryIO, *, strategy: QuantizationStrategy, report: Report
    ) -> CoreModel:
        """Write the ``.tflite`` form of the model to ``stream``."""
        return write_forward(
            self._model, stream, strategy=strategy, max_length=self._max_length, report=report
        )

    def facts(self, parameters: int) -> Model:
        """What the manifest says of the model."""
        return Model(
            class_=type(self._model).__name__,
            parameters=parameters,
            vocabulary_size=vocabulary_size(self._model),
            context_length=self._max_length,
            prefill_lengths=(),
        )

    def text_facts(self) -> None:
        """Text stays outside of this graph."""

    def check(self, path: Path, manifest: Manifest, *, lossless: bool) -> dict[str, Any]:
        """Compare the file at ``path`` with the model."""
        prompt = sample_prompt(self._tokenizer)
        return check_forward(path, manifest, self._model, prompt=prompt, lossless=lossless)

    def choices(
        self, path: Path, manifest: Manifest, texts: Sequence[Sequence[int]]
    ) -> list[Choices]:
        """Return what the file at ``path`` chooses on calibration texts."""
        return choices_of_forward(path, texts, manifest.model.context_length)
