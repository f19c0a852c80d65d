"""The plan of the ``generate`` layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from ..errors import InvalidOptionError, UnsupportedModelError
from ..layouts.core import CoreModel
from ..layouts.generate import GenerateOptions, write_generate
from ..manifest import Manifest, Model, TextFacts
from ..progress import Report
from ..quantization import QuantizationStrategy
from ..sampling import Sampling
from ..text_graph import graph_tokenizer
from ..tokenizer_assets import TokenizerAsset
from ..tracing.prefix import reads_prefix
from ..tracing.requirements import check_context, vocabulary_size
from .agreement import Choices
from .check_text import check_text, choices_of_text
from .plan import keras_differences, whole_number

_STRING_BITS = {8, 32}
_OTHER_SAMPLING = {"repetition_penalty": 1.0, "top_p": 1.0, "min_p": 0.0, "seed": None}


class GeneratePlan:
    """The whole of ``generate``: text in, text out."""

    layout = "generate"
    suffixes = (".tflite",)

    def __init__(
        self,
        model: Any,
        tokenizer: TokenizerAsset | None,
        *,
        max_length: int | None = None,
        text: Literal["bytes", "string"] = "bytes",
        sampling: Sampling | None = None,
    ) -> None:
        """Choose what was not given; see ``Converter``."""
        if tokenizer is None:
            raise UnsupportedModelError(
                "the layout 'generate' has the tokenizer inside; expected a model with a "
                "preprocessor: attach one, or use the layout 'prefill_decode'"
            )
        if reads_prefix(model):
            raise UnsupportedModelError(
                f"the layout 'generate' reads a prompt in pieces; {type(model).__name__} reads the "
                "whole of it in both directions: use the layout 'prefill_decode'"
            )
        if max_length is None:
            max_length = model.preprocessor.sequence_length
        if text not in ("bytes", "string"):
            raise InvalidOptionError(f"text must be 'bytes' or 'string'; got {text!r}")
        whole_number("max_length", max_length, 2)
        check_context(model, "max_length", max_length)
        self._graph_tokenizer = graph_tokenizer(tokenizer.kind, tokenizer.data, special_tokens=True)
        self._options = _options(max_length, sampling or Sampling.greedy(), tokenizer, text)
        self._model = model
        self._tokenizer = tokenizer

    def write(
        self, stream: BinaryIO, *, strategy: QuantizationStrategy, report: Report
    ) -> CoreModel:
        """Write the ``.tflite`` form of the model to ``stream``.

        Raises:
            InvalidOptionError: No runtime that takes strings would run what the strategy stores.
        """
        core = write_generate(
            self._model,
            stream,
            tokenizer=self._graph_tokenizer,
            options=self._options,
            strategy=strategy,
            report=report,
        )
        if self._options.text == "string":
            _check_bits(core, strategy)
        return core

    def facts(self, parameters: int) -> Model:
        """What the manifest says of the model."""
        return Model(
            class_=type(self._model).__name__,
            parameters=parameters,
            vocabulary_size=vocabulary_size(self._model),
            context_length=self._options.max_length,
            prefill_lengths=(),
        )

    def text_facts(self) -> TextFacts:
        """What the manifest says of the text that goes in and comes out of the graph."""
        options = self._options
        return TextFacts(options.text, True, options.top_k, options.temperature)

    def check(self, path: Path, manifest: Manifest, *, lossless: bool) -> dict[str, Any]:
        """Compare the file at ``path`` with the model."""
        figures = check_text(
            path, manifest, self._model, self._tokenizer, self._graph_tokenizer, lossless=lossless
        )
        return figures | keras_differences(self._model)

    def choices(
        self, path: Path, manifest: Manifest, texts: Sequence[Sequence[int]]
    ) -> list[Choices]:
        """Return what the file at ``path`` chooses on calibration texts."""
        return choices_of_text(path, manifest, self._tokenizer, texts)


def _check_bits(core: CoreModel, strategy: QuantizationStrategy) -> None:
    """Refuse weights that the last runtime with a Flex delegate cannot read.

    TensorFlow 2.18.1 looks up no rows of float16, and blocks of four bits end its process.
    """
    bits = {weight.bits for weight in core.weights}
    if not bits <= _STRING_BITS:
        raise InvalidOptionError(
            f"text='string' needs weights of {' or '.join(map(str, sorted(_STRING_BITS)))} bits, "
            f"which the runtimes that take strings can read; {strategy.name!r} made some of "
            f"{min(bits - _STRING_BITS)}: use 'none', 'dynamic_range' or 'weight_only_int8', or "
            "text='bytes'"
        )


def _options(
    max_length: int,
    sampling: Sampling,
    tokenizer: TokenizerAsset,
    text: Literal["bytes", "string"],
) -> GenerateOptions:
    for name, value in _OTHER_SAMPLING.items():
        if getattr(sampling, name) != value:
            raise InvalidOptionError(
                f"the layout 'generate' samples with temperature and top_k; got {name}="
                f"{getattr(sampling, name)!r}"
                + (": a seed belongs to the run, not to the file" if name == "seed" else "")
            )
    greedy = sampling.temperature == 0 or sampling.top_k == 1
    if not greedy and sampling.top_k is None:
        raise InvalidOptionError(
            "the layout 'generate' samples from the top_k most probable tokens; expected "
            "Sampling(temperature=..., top_k=...), got top_k=None"
        )
    return GenerateOptions(
        max_length=max_length,
        start=tokenizer.start,
        stop=tokenizer.stop,
        top_k=1 if greedy or sampling.top_k is None else sampling.top_k,
        temperature=1.0 if greedy else sampling.temperature,
        text=text,
    )
