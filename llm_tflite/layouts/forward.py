"""The ``forward`` layout: a whole text in, the logits of every position out."""

from __future__ import annotations

from typing import Any, BinaryIO

from ..flatbuffer.merge import merge
from ..flatbuffer.weights import take_inputs
from ..progress import Progress, Report
from ..quantization import QuantizationStrategy
from ..tracing.forward import trace_forward
from ..tracing.skeleton import convert_signature
from .core import CoreModel, write_model


def write_forward(
    model: Any,
    stream: BinaryIO,
    *,
    strategy: QuantizationStrategy,
    max_length: int,
    report: Report,
) -> CoreModel:
    """Write the ``.tflite`` form of a Keras model to ``stream``.

    Args:
        model: A KerasHub ``CausalLM`` whose code computes in float32 (``float_code``).
        stream: A seekable, empty binary file.
        strategy: How each matrix is stored.
        max_length: Tokens of a text, padding included.
        report: Called at every step.

    Raises:
        ConversionError: An operation has no builtin form.
        QuantizationError: The strategy failed on a weight, or a weight is not finite.
    """
    report(Progress("tracing", 0, 1))
    signature, weights = trace_forward(model, max_length)
    report(Progress("converting the graph", 0, 1))
    flatbuffer = merge([convert_signature(signature)])
    sites = take_inputs(flatbuffer, {weight.name for weight in weights})
    placed = write_model(flatbuffer, sites, weights, stream, strategy=strategy, report=report)
    return CoreModel((), placed)
