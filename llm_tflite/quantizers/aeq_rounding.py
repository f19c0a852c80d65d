"""Matrices rounded by ai-edge-quantizer's own functions, a part at a time.

Its ``get_tensor_quant_params`` is one function per algorithm: a tensor goes in, integers and scales
come out, bit for bit what ``Quantizer`` would write into a file. Scales that no runtime takes are
dealt with here: values that it would divide by zero become zeros.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import Moments
from llm_tflite.quantization import row_chunks

from .aeq_recipes import ALGORITHMS, Rule
from .block_scales import Floats, storable

Rounded: TypeAlias = tuple[npt.NDArray[np.int8], Floats]

# The runtime refuses scales of rows that are subnormal, and those of blocks are float16.
_SMALLEST_OF_ROWS, _SMALLEST_OF_BLOCKS = float(np.finfo(np.float32).tiny), 2.0**-24


def round_matrix(values: Floats, rule: Rule) -> Rounded | None:
    """Return integers and scales, or None if the algorithm has no scale that could be stored.

    Args:
        values: ``[out, in]``.
        rule: One that quantizes, by another algorithm than GPTQ.

    Returns:
        Integers ``[out, in]``, and scales ``[out]`` or ``[out, in / block_size]``.
    """
    # OCTAV stops when the whole tensor does not change any more; others look at rows.
    chunks = [slice(None)] if rule.algorithm == "OCTAV" else row_chunks(values)
    integers = np.empty(values.shape, np.int8)
    scales = []
    for rows in chunks:
        part = np.ascontiguousarray(values[rows])
        rounded = _usable(part, _parameters(part, rule, None), rule)
        if rounded is None:
            return None
        integers[rows] = rounded[0]
        scales.append(rounded[1])
    return integers, np.concatenate(scales)


def round_with_moments(values: Floats, rule: Rule, moments: Moments) -> Rounded | None:
    """Return what GPTQ makes of a matrix whose inputs go together as ``moments`` say.

    What goes together is known within tiles of columns, so GPTQ makes up for errors within one, and
    matrices that are wider than a tile come out otherwise than in ai-edge-quantizer.
    """
    values = np.ascontiguousarray(values)
    blocks = values.reshape(len(values), -1, rule.block_size or values.shape[1])
    low, high = blocks.min(axis=2), blocks.max(axis=2)
    integers = np.empty(values.shape, np.int8)
    scales, start = [], 0
    for tile in moments.tiles:
        columns = slice(start, start + len(tile))
        start += len(tile)
        part = np.ascontiguousarray(values[:, columns])
        size = rule.block_size
        of = slice(columns.start // size, columns.stop // size) if size else slice(None)
        hessian = 2 / moments.rows * tile.astype(np.float64)
        qsv = {"min": low[:, of], "max": high[:, of], "activation_tensor_qsv": {"hessian": hessian}}
        rounded = _usable(part, _parameters(part, rule, qsv), rule)
        if rounded is None:
            return None
        integers[:, columns] = rounded[0]
        scales.append(rounded[1])
    return integers, np.concatenate(scales, axis=1) if rule.block_size else scales[0]


def _parameters(values: Floats, rule: Rule, qsv: dict[str, Any] | None) -> Any:
    """Call the algorithm; returns ai-edge-quantizer's ``UniformQuantParams``."""
    from ai_edge_quantizer import qtyping

    module = import_module(
        f"ai_edge_quantizer.algorithms.uniform_quantize.{ALGORITHMS[rule.algorithm]}"
    )
    operation = qtyping.OpInfo(None, qtyping.TFLOperationName(rule.operation), 0, rule.config)
    # Where nothing can be divided or summed up, `_usable` sees it.
    with np.errstate(all="ignore"):
        return module.get_tensor_quant_params(
            operation, rule.config.weight_tensor_config, values, qsv
        )


def _usable(values: Floats, parameters: Any, rule: Rule) -> Rounded | None:
    rows = len(values)
    blocks = values.reshape(rows, -1, rule.block_size or values.shape[1])
    integers = np.asarray(parameters.quantized_data, np.int8).reshape(blocks.shape)
    scales = np.asarray(parameters.scale, np.float32).reshape(rows, -1)
    smallest = _SMALLEST_OF_BLOCKS if rule.block_size else _SMALLEST_OF_ROWS
    # Also true where it is NaN.
    tiny = ~(scales >= smallest)
    largest = np.maximum(blocks.max(axis=2), -blocks.min(axis=2))
    lost = largest > 2 ** (rule.bits - 1) * smallest
    if (tiny & lost).any() or not np.isfinite(scales).all():
        return None
    integers = np.where(tiny[..., np.newaxis], np.int8(0), integers)
    scales = np.where(tiny, np.float32(1), scales)
    return integers.reshape(values.shape), storable(scales) if rule.block_size else scales[:, 0]
