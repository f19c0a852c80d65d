"""The ``prefill_decode`` layout: graph first, weights later.

The model is traced and converted with its large weights as inputs, which takes seconds for any
size; then they are placed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, BinaryIO

from ..flatbuffer.merge import merge
from ..flatbuffer.weights import take_inputs
from ..progress import Report
from ..quantization import QuantizationStrategy
from ..signature_names import signature_variants
from ..tracing.probe import Cache
from .core import CoreModel, convert_signatures, write_model


def write_prefill_decode(
    model: Any,
    stream: BinaryIO,
    *,
    strategy: QuantizationStrategy,
    cache: Cache,
    prefill_lengths: Sequence[int],
    short_caches: Sequence[int],
    report: Report,
) -> CoreModel:
    """Write the ``.tflite`` form of a Keras model to ``stream``.

    Args:
        model: A KerasHub ``CausalLM`` whose code computes in float32 (``float_code``).
        stream: A seekable, empty binary file.
        strategy: How each matrix is stored.
        cache: The model's cache for the whole context.
        prefill_lengths: T of each ``prefill_{T}``.
        short_caches: Cache slots of further signatures, each less than S.
        report: Called at every step.

    Raises:
        UnsupportedModelError: The model's code is of a form not known here.
        ConversionError: An operation has no builtin form.
        QuantizationError: The strategy failed on a weight, or a weight is not finite.
    """
    variants = list(signature_variants(prefill_lengths, short_caches))
    parts, weights = convert_signatures(model, cache, variants, report)
    flatbuffer = merge(parts)
    sites = take_inputs(flatbuffer, {weight.name for weight in weights})
    placed = write_model(flatbuffer, sites, weights, stream, strategy=strategy, report=report)
    return CoreModel(cache.tensors, placed)
