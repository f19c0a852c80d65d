"""Convert a model with several quantizers and put what came out side by side."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ..artifact import Artifact
from ..converter import Converter
from ..errors import (
    InvalidOptionError,
    LLMTFLiteError,
    PluginError,
    RuntimeFailureError,
    StorageError,
)
from ..files import PathLike, local_path
from ..plugins import load_plugins
from ..progress import Progress, reporting
from ..progress import Report as Reporter
from ..quantization import QuantizationStrategy, uses_calibration
from .comparison import Comparison, Outcome
from .evaluate import examine
from .references import KerasReference, file_of
from .settings import Settings
from .speed import Speed, measure_in_turns
from .texts import Texts, listed_texts, read_texts


def compare(
    model: Any,
    quantizers: Sequence[str | QuantizationStrategy],
    *,
    text: Texts,
    calibration: Sequence[str] | Sequence[Sequence[int]] | None = None,
    context_length: int | None = None,
    prefill_lengths: Sequence[int] | None = None,
    window: int | None = None,
    greedy_texts: int = 16,
    greedy_tokens: int = 64,
    threads: int | None = None,
    runs: int = 3,
    seed: int = 0,
    folder: PathLike | None = None,
    progress: bool | Reporter | None = None,
) -> Comparison:
    """Convert a Keras model once for each quantizer and evaluate each file against the model.

    Speeds are measured in turns, so that they can be compared: the files are there together until
    then, and none is left. A quantizer that is unknown, fails, or makes a file that is refused gets
    its error as its row, and the others go on.

    Args:
        model: As for ``Converter``.
        quantizers: Names or strategy objects.
        text: As for ``evaluate``.
        calibration: Texts for those of the quantizers that need them or make use of them.
        context_length: As for ``Converter``, of the layout ``prefill_decode``.
        prefill_lengths: As for ``Converter``.
        window: This and the following are as for ``evaluate``.
        greedy_texts: How many texts are continued.
        greedy_tokens: Where a continuation ends.
        threads: Threads of a run.
        runs: Runs of the speed measurement, in each of three rounds.
        seed: Of the prompts that speed is measured on.
        folder: Where the files are, while they are needed; by default, where the system keeps
            temporary ones.
        progress: True for a bar, or a function that is called with every ``Progress``.

    Raises:
        InvalidOptionError: There are no quantizers or two of one name, or an option would be
            ignored.
        PromptError: A text cannot reach the model exactly, or has fewer than two tokens.
        StorageError: There is no such folder.
        UnsupportedModelError: The model does not convert, whatever the quantizer.
    """
    if folder is not None and not local_path(folder).is_dir():
        raise StorageError(f"the folder {folder} does not exist; create it first")
    settings = Settings(window, greedy_texts, greedy_tokens, threads, runs, seed)
    texts = listed_texts(text)
    strategies = _strategies(quantizers)
    _check_calibration(strategies, calibration)
    lengths: dict[str, Any] = {"context_length": context_length, "prefill_lengths": prefill_lengths}
    Converter(model, quantizer="none", **lengths)  # refuses what is no quantizer's fault
    reference = KerasReference(model)
    outcomes: dict[str, Outcome] = {}
    files: dict[str, Artifact] = {}
    read: dict[str, list[list[int]]] = {}
    with (
        reporting(progress) as report,
        tempfile.TemporaryDirectory(dir=folder, ignore_cleanup_errors=True) as scratch,
    ):
        for name, strategy in strategies.items():
            path = Path(scratch) / f"{name.replace(':', '_')}.tflite"
            try:
                if isinstance(strategy, PluginError):
                    raise strategy
                artifact = Converter(
                    model,
                    quantizer=strategy,
                    calibration=calibration if uses_calibration(strategy) else None,
                    **lengths,
                ).convert(path, progress=_named(report, name))
            except LLMTFLiteError as e:
                outcomes[name] = _failed(name, e)
                continue
            # What is wrong with these is no fault of the quantizer.
            settings.window_within(artifact.manifest.model.context_length)
            files[name], read[name] = artifact, read_texts(artifact, texts)
        speeds = measure_in_turns(
            [file_of(artifact) for artifact in files.values()],
            threads=threads,
            runs=runs,
            seed=seed,
            report=report,
        )
        for (name, artifact), speed in zip(files.items(), speeds, strict=True):
            given, named = partial(_speed_or_error, speed), _named(report, name)
            try:
                found = examine(artifact, read[name], reference, given, settings, named)
                outcomes[name] = Outcome(name, report=found)
            except LLMTFLiteError as e:
                outcomes[name] = _failed(name, e)
            file_of(artifact).unlink()
    return Comparison(reference.name, tuple(outcomes[name] for name in strategies))


def _strategies(
    quantizers: Sequence[str | QuantizationStrategy],
) -> dict[str, QuantizationStrategy | PluginError]:
    """Each strategy by its name, or what keeps it from being found."""
    if isinstance(quantizers, str) or not isinstance(quantizers, Sequence) or not quantizers:
        raise InvalidOptionError(
            f"quantizers must be a list of names or strategies; got {quantizers!r:.80}"
        )
    found: dict[str, QuantizationStrategy | PluginError] = {}
    for choice in quantizers:
        strategy: QuantizationStrategy | PluginError
        try:
            strategy = load_plugins().quantizer(choice)
        except PluginError as e:
            strategy = e
        name = choice if isinstance(choice, str) else choice.name
        if name in found:
            raise InvalidOptionError(
                f"quantizers must differ in their names; {name!r} is there twice"
            )
        found[name] = strategy
    return found


def _check_calibration(
    strategies: dict[str, QuantizationStrategy | PluginError], calibration: object
) -> None:
    if calibration is not None and not any(map(uses_calibration, strategies.values())):
        raise InvalidOptionError(
            f"none of {', '.join(strategies)} takes calibration texts, so calibration would be "
            "ignored; leave it out"
        )


def _speed_or_error(found: Speed | RuntimeFailureError) -> Speed:
    if isinstance(found, RuntimeFailureError):
        raise found
    return found


def _failed(name: str, error: LLMTFLiteError) -> Outcome:
    return Outcome(name, error=f"{type(error).__name__}: {error}")


def _named(report: Reporter, name: str) -> Reporter:
    """Report stages with the quantizer that they belong to."""

    def named(step: Progress) -> None:
        report(replace(step, stage=f"{name}: {step.stage}"))

    return named
