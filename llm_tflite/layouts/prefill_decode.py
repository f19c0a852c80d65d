"""The ``prefill_decode`` layout: graph first, weights later.

The model is traced and converted with its large weights as inputs, which takes seconds for any
size; then they are placed.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any, BinaryIO

from ..flatbuffer.weights import take_inputs
from ..progress import Progress, Report
from ..quantization import QuantizationStrategy
from ..tracing.probe import probe_cache
from ..tracing.signatures import trace_signatures
from ..tracing.skeleton import convert_skeleton
from .core import CoreModel, write_model


def write_prefill_decode(
    model: Any,
    stream: BinaryIO,
    *,
    strategy: QuantizationStrategy,
    context_length: int,
    prefill_lengths: Sequence[int],
    short_caches: Sequence[int],
    report: Report,
) -> CoreModel:
    """Write the ``.tflite`` form of a Keras model to ``stream``.

    Args:
        model: A KerasHub ``CausalLM`` in float32.
        stream: A seekable, empty binary file.
        strategy: How each matrix is stored.
        context_length: Cache slots, S.
        prefill_lengths: T of each ``prefill_{T}``.
        short_caches: Cache slots of further signatures, each less than S.
        report: Called at every step.

    Raises:
        UnsupportedModelError: The model's code or its cache is of a form not known here.
        ConversionError: An operation has no builtin form.
        QuantizationError: The strategy failed on a weight, or a weight is not finite.
    """
    report(Progress("tracing", 0, 1))
    cache = probe_cache(model, context_length)
    signatures, weights = trace_signatures(model, cache, prefill_lengths, short_caches)
    report(Progress("converting the graph", 0, 1))
    flatbuffer = convert_skeleton(signatures)
    del signatures
    gc.collect()  # graphs refer to themselves; GPT-2 XL's take 0.5 GB
    sites = take_inputs(flatbuffer, {weight.name for weight in weights})
    placed = write_model(flatbuffer, sites, weights, stream, strategy=strategy, report=report)
    return CoreModel(cache.tensors, placed)
