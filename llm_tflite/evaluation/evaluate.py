"""Find out what one file costs, and how well it says what the model says."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ..artifact import Artifact
from ..files import PathLike
from ..interpreter import Interpreter
from ..progress import Progress, reporting
from ..progress import Report as Reporter
from .greedy import common_prefixes, opening
from .likelihood import likelihood
from .matrices import matrix_errors
from .references import (
    Reference,
    as_artifact,
    check_gives_logits,
    file_of,
    opened_reference,
)
from .report import Report
from .settings import Settings
from .speed import Speed, measure_speed
from .texts import Texts, read_texts


def evaluate(
    artifact: Artifact | PathLike,
    *,
    text: Texts,
    reference: Any = None,
    window: int | None = None,
    greedy_texts: int = 16,
    greedy_tokens: int = 64,
    threads: int | None = None,
    runs: int = 3,
    seed: int = 0,
    progress: bool | Reporter | None = None,
) -> Report:
    """Measure a file, and compare it with the float model that it was made of.

    - Perplexity is ``exp`` of the mean negative log-likelihood, in nats per token, over all texts
      together. A text's first token is not counted (the start token, where the model has one: then
      all tokens of the text are). A text longer than the window is read in parts, each of which
      begins with the last token of the one before and knows nothing else of it; every token but the
      first is counted once.
    - KL divergence is that of the file's next-token distribution from the float model's,
      KL(float || file), in nats, and top-1 agreement the share of places where both find the same
      token most probable: means over the same tokens.
    - A greedy prefix is how many tokens file and float model write alike after the first half of a
      text, stop tokens counting as any other.
    - Load time, tokens per second and peak memory are those of a process of its own; see
      ``Speed``. The first run warms up and is not counted, of the others it is the median.
    - A matrix' error is the root mean square of what the file stores minus the float weights,
      divided by that of the weights.

    The float model computes in float32, whatever types the Keras model has.

    Args:
        artifact: A file, of the layout ``prefill_decode``, or of ``forward``, which writes nothing
            and so has no greedy prefixes and no speed of decoding.
        text: A text, or some: strings or lists of token ids.
        reference: The Keras model, or a float32 file of it (``quantizer="none"``); None leaves out
            all that compares.
        window: Tokens that are read at once; by default, as many as the context has.
        greedy_texts: How many of the texts, from the first on, are continued; 0 for none.
        greedy_tokens: Where a continuation ends, if the two have not parted.
        threads: Threads of a run; as for ``Interpreter``.
        runs: Runs of the speed measurement.
        seed: Of the random prompts that speed is measured on.
        progress: True for a bar, or a function that is called with every ``Progress``.

    Raises:
        InvalidOptionError: An argument has a value that no report could honour, the reference is
            another model, or the file gives no logits.
        PromptError: A text cannot reach the model exactly, or has fewer than two tokens.
        ArtifactError: The file cannot be used.
        UnsupportedModelError: The reference is neither a file nor a Keras model that converts.
        RuntimeFailureError: The runtime failed, or scores are not finite.
    """
    opened = as_artifact(artifact)
    check_gives_logits(opened)
    settings = Settings(window, greedy_texts, greedy_tokens, threads, runs, seed)
    settings.window_within(opened.manifest.model.context_length)
    texts = read_texts(opened, text)
    source = nullcontext() if reference is None else opened_reference(reference, threads=threads)
    with source as opened_source, reporting(progress) as report:

        def speed() -> Speed:
            report(Progress("measuring speed", 0, 1))
            found = measure_speed(file_of(opened), threads=threads, runs=runs, seed=seed)
            report(Progress("measuring speed", 1, 1))
            return found

        return examine(opened, texts, opened_source, speed, settings, report)


def examine(
    artifact: Artifact,
    texts: list[list[int]],
    reference: Reference | None,
    speed: Callable[[], Speed],
    settings: Settings,
    report: Reporter,
) -> Report:
    """Make the report of a file that was checked, on texts that were read.

    ``speed`` is called once the reference is known to be one of this file.
    """
    manifest = artifact.manifest
    context = manifest.model.context_length
    window = settings.window_within(context)
    if reference is not None:
        reference.check(manifest)
    # First, as it tells a file of another model from one that says little of what the model says.
    matrices = () if reference is None else matrix_errors(artifact, reference, report)
    path = file_of(artifact)
    measured = speed()
    prefixes: list[int] = []
    with Interpreter(path, threads=settings.threads) as interpreter:
        figures = likelihood(interpreter, texts, window, reference, report)
        if reference is not None and manifest.layout != "forward":
            prompts = [opening(ids, context) for ids in texts[: settings.greedy_texts]]
            prefixes = common_prefixes(
                interpreter, prompts, settings.greedy_tokens, reference, report
            )
    return Report(
        file=path.name,
        model=manifest.model.class_,
        layout=manifest.layout,
        quantizer=manifest.quantization.strategy,
        parameters=manifest.model.parameters,
        size_bytes=artifact.size_bytes,
        threads=settings.threads,
        speed=measured,
        texts=len(texts),
        window=window,
        tokens=figures.tokens,
        perplexity=figures.perplexity,
        reference=None if reference is None else reference.name,
        reference_perplexity=figures.reference_perplexity,
        kl_divergence=figures.kl_divergence,
        top1_agreement=figures.top1_agreement,
        greedy_limit=settings.greedy_tokens,
        greedy_prefixes=tuple(prefixes),
        matrices=matrices,
    )
