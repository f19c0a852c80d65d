"""From a graph without weights to a model on disk: fetch, quantize and place one at a time.

Beyond the loaded model, memory holds one matrix and its quantized form; of matrices that one
activation is multiplied with, the quantized forms of all.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..bundle.tflite_metadata import reserve_metadata
from ..flatbuffer.merge import Part
from ..flatbuffer.model import drop_unused_tensors, pack, share_buffers
from ..flatbuffer.stacked_products import StackedProducts, alike, stacked
from ..flatbuffer.weights import WeightInjector, WeightSite
from ..flatbuffer.writer import ModelWriter
from ..manifest import QuantizedWeight
from ..progress import Progress, Report
from ..quantization import QuantizationStrategy, QuantizedTensor, Role, Weight, plan, quantize
from ..signature_names import Variant
from ..tracing.probe import Cache
from ..tracing.signatures import WeightInput, WeightInputs, trace_signatures
from ..tracing.skeleton import convert_signature
from ..tracing.states import CarriedTensor


@dataclass(frozen=True)
class CoreModel:
    """What was written, without tokenizer and manifest.

    Attributes:
        cache: The caches that callers carry from one call to the next.
        weights: What became of each variable.
    """

    cache: tuple[CarriedTensor, ...]
    weights: tuple[QuantizedWeight, ...]


def convert_signatures(
    model: Any, cache: Cache, variants: Sequence[Variant], report: Report
) -> tuple[list[Part], list[WeightInput]]:
    """Trace and convert the graphs of a model, one after the other, without its large weights.

    Args:
        model: A KerasHub ``CausalLM`` whose code computes in float32 (``float_code``).
        cache: Its cache for the whole context.
        variants: Length and slots of each graph, the one that decodes first.
        report: Called for every graph.

    Returns:
        The graphs, and the weights that they take.

    Raises:
        UnsupportedModelError: The model's code is of a form not known here.
        ConversionError: An operation has no builtin form.
    """
    weights = WeightInputs()
    parts: list[Part] = []
    report(Progress("converting the graphs", 0, len(variants)))
    for signature in trace_signatures(model, cache, variants, weights):
        parts.append(convert_signature(signature))
        report(Progress("converting the graphs", len(parts), len(variants)))
    gc.collect()  # graphs refer to themselves; GPT-2 XL's take 60 MB each
    return parts, list(weights)


def write_model(
    flatbuffer: Any,
    sites: Mapping[str, Sequence[WeightSite]],
    weights: Sequence[WeightInput],
    stream: BinaryIO,
    *,
    strategy: QuantizationStrategy,
    report: Report,
) -> tuple[QuantizedWeight, ...]:
    """Write a ``ModelT`` with its weights.

    Args:
        flatbuffer: The model, whose tensors at ``sites`` wait for their weights.
        sites: Where each weight belongs, by its name.
        weights: Where the values are.
        stream: A seekable, empty binary file.
        strategy: How each matrix is stored.
        report: Called for every weight.

    Raises:
        ConversionError: An operation reads a weight that cannot read the strategy's form.
        QuantizationError: The strategy failed on a weight, or a weight is not finite.
    """
    share_buffers(flatbuffer)
    strategy = plan(strategy, ((_weight(source), _values(source)) for source in weights))
    writer = ModelWriter(stream, _head_capacity(len(pack(flatbuffer)), weights))
    injector = WeightInjector(flatbuffer, writer)
    products = StackedProducts(flatbuffer, sites)
    sources = {source.name: source for source in weights}
    placed: list[QuantizedWeight] = []
    for group in products.groups(sources):
        quantized: dict[str, tuple[Weight, QuantizedTensor]] = {}
        for name in group:
            report(Progress("quantizing weights", len(placed) + len(quantized), len(weights)))
            quantized[name] = _quantized(sources[name], strategy)
        for names in alike({name: tensor for name, (_, tensor) in quantized.items()}):
            tensors = [quantized[name][1] for name in names]
            injector.place(products.stack(names), stacked(tensors))
            placed += [
                _placed(quantized[name][0], sources[name], quantized[name][1]) for name in names
            ]
    drop_unused_tensors(flatbuffer)
    reserve_metadata(flatbuffer)
    writer.finish(flatbuffer)
    report(Progress("quantizing weights", len(placed), len(placed)))
    return tuple(placed)


def _head_capacity(skeleton_size: int, weights: Sequence[WeightInput]) -> int:
    # A float32 scale and an int64 zero point for each row, the same and an int64 value for its
    # bias, and what the tables around them take; products of integers have twice the tensors.
    rows = sum(weight.shape[0] for weight in weights)
    return skeleton_size * 2 + 32 * rows + 4096 * len(weights)


def _quantized(
    source: WeightInput, strategy: QuantizationStrategy
) -> tuple[Weight, QuantizedTensor]:
    weight, values = _weight(source), _values(source)
    if source.uses:
        return weight, quantize(strategy, weight, values)
    note = "read as it is and not as a matrix: kept as float32"
    return weight, QuantizedTensor(values.reshape(source.shape), bits=32, note=note)


def _weight(source: WeightInput) -> Weight:
    path = source.variable.path
    layer = re.search(r"(?:layer|block)s?_(\d+)", path)
    role: Role = "projection" if source.uses else "table"
    return Weight(
        name=path,
        role="embedding" if "lookup" in source.uses else role,
        shape=(source.shape[0], prod(source.shape[1:])),
        tied=source.uses == {"lookup", "projection"},
        layer=int(layer.group(1)) if layer else None,
    )


def _values(source: WeightInput) -> npt.NDArray[np.float32]:
    """The values of a weight as a matrix."""
    matrix: npt.NDArray[np.float32] = source.values().reshape(source.shape[0], -1)
    return matrix


def _placed(weight: Weight, source: WeightInput, tensor: QuantizedTensor) -> QuantizedWeight:
    return QuantizedWeight(
        name=weight.name,
        role=weight.role,
        shape=source.shape,
        bits=tensor.bits,
        block_size=tensor.block_size,
        bytes=tensor.size_bytes,
        note=tensor.note,
    )
