"""The plan of the ``prefill_decode`` layout."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ..cache_types import check_cache_type
from ..errors import InvalidOptionError
from ..layouts.core import CoreModel
from ..layouts.prefill_decode import write_prefill_decode
from ..manifest import Manifest, Model
from ..progress import Report
from ..quantization import QuantizationStrategy
from ..tokenizer_assets import TokenizerAsset
from ..tracing.cache_usage import learn_cache
from ..tracing.requirements import check_context, vocabulary_size
from .agreement import Choices
from .check_caches import check_caches, choices_of_caches
from .plan import checked_length, default_length, keras_differences, sample_prompt

# A longer one gains nothing on a CPU: 700 tokens/s with 512, 732 with 128 (GPT-2 124M, int8).
_DEFAULT_LADDER = (8, 32, 128)
# Slots of the caches with which a text begins; it moves to larger ones as it grows.
_SHORT_CACHES = (256, 512, 1024, 2048, 4096)


class PrefillDecodePlan:
    """Signatures with an explicit KV cache, tokens in and logits out."""

    layout = "prefill_decode"
    suffixes = (".litertlm", ".tflite")

    def __init__(
        self,
        model: Any,
        tokenizer: TokenizerAsset | None,
        *,
        context_length: int | None = None,
        prefill_lengths: Sequence[int] | None = None,
        cache_dtype: str = "float32",
    ) -> None:
        """Choose what was not given; see ``Converter``."""
        if context_length is None:
            context_length = default_length(model)
        if prefill_lengths is None:
            prefill_lengths = [t for t in _DEFAULT_LADDER if t <= context_length]
        self._context_length = checked_length("context_length", context_length)
        self._prefill_lengths = _checked_ladder(prefill_lengths, self._context_length)
        check_context(model, "context_length", self._context_length)
        self._cache = learn_cache(model, self._context_length, check_cache_type(cache_dtype))
        if self._cache.exact_prefill:  # for LiteRT-LM and the end of a prompt
            self._prefill_lengths = tuple(sorted({1, *self._prefill_lengths}))
        if self._cache.prefix_prefill:  # one call reads the whole of any prompt
            self._prefill_lengths = tuple(sorted({*self._prefill_lengths, self._context_length}))
        slotted = any(tensor.slot_axis is not None for tensor in self._cache.tensors)
        self._short_caches = tuple(s for s in _SHORT_CACHES if slotted and s < self._context_length)
        self._model = model
        self._tokenizer = tokenizer

    def write(
        self, stream: BinaryIO, *, strategy: QuantizationStrategy, report: Report
    ) -> CoreModel:
        """Write the ``.tflite`` form of the model to ``stream``."""
        return write_prefill_decode(
            self._model,
            stream,
            strategy=strategy,
            cache=self._cache,
            prefill_lengths=self._prefill_lengths,
            short_caches=self._short_caches,
            report=report,
        )

    def facts(self, parameters: int) -> Model:
        """What the manifest says of the model."""
        return Model(
            class_=type(self._model).__name__,
            parameters=parameters,
            vocabulary_size=vocabulary_size(self._model),
            context_length=self._context_length,
            prefill_lengths=self._prefill_lengths,
            short_caches=self._short_caches,
            exact_prefill=self._cache.exact_prefill,
            prefix_prefill=self._cache.prefix_prefill,
        )

    def text_facts(self) -> None:
        """Text stays outside of these graphs."""

    def check(self, path: Path, manifest: Manifest, *, lossless: bool) -> dict[str, Any]:
        """Compare the file at ``path`` with the model."""
        prompt = sample_prompt(self._tokenizer)
        figures = check_caches(path, manifest, self._model, prompt=prompt, lossless=lossless)
        return figures | keras_differences(self._model)

    def choices(
        self, path: Path, manifest: Manifest, texts: Sequence[Sequence[int]]
    ) -> list[Choices]:
        """Return what the file at ``path`` chooses on calibration texts."""
        return choices_of_caches(path, manifest, texts)


def _checked_ladder(lengths: Sequence[int], context_length: int) -> tuple[int, ...]:
    ladder = tuple(sorted({checked_length("each of prefill_lengths", t) for t in lengths}))
    if not ladder or ladder[-1] > context_length:
        raise InvalidOptionError(
            f"prefill_lengths must hold at least one length, none above the context of "
            f"{context_length}; got {list(lengths)}"
        )
    return ladder
