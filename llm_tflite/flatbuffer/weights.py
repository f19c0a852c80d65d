"""Turn inputs of a model's signatures into constants, in the form that each operation reads."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..errors import ConversionError
from ..quantization import QuantizedTensor
from .model import (
    SharedQuantization,
    copy_tensor,
    new_operator,
    operator_code,
    operator_index,
)
from .static_quantization import StaticProducts
from .writer import ModelWriter

_Op = schema.BuiltinOperator
_Type = schema.TensorType
_TYPES = {32: _Type.FLOAT32, 16: _Type.FLOAT16, 8: _Type.INT8, 4: _Type.INT4}

# First versions of the operations that read what is stored here
# (tflite/tools/versioning/op_version.cc), so that an older runtime refuses the file instead of
# misreading it.
_FULLY_CONNECTED_VERSION = {8: 12, 4: 12}
_EMBEDDING_LOOKUP_VERSION = {32: 1, 8: 3, 4: 4}


@dataclass(frozen=True)
class WeightSite:
    """A tensor that waits for its weight."""

    subgraph: int
    tensor: int


def take_inputs(model: Any, names: Container[str]) -> dict[str, list[WeightSite]]:
    """Turn inputs of a model's signatures into sites for weights; the signatures lose them."""
    sites: dict[str, list[WeightSite]] = {}
    for signature in model.signatureDefs:
        subgraph = model.subgraphs[signature.subgraphIndex]
        taken = [entry for entry in signature.inputs if entry.name.decode() in names]
        for entry in taken:
            site = WeightSite(signature.subgraphIndex, entry.tensorIndex)
            sites.setdefault(entry.name.decode(), []).append(site)
        tensors = {entry.tensorIndex for entry in taken}
        subgraph.inputs = np.array([i for i in subgraph.inputs if i not in tensors], np.int32)
        signature.inputs = [entry for entry in signature.inputs if entry not in taken]
    return sites


class WeightInjector:
    """Places weights into a skeleton, each stored once however often it is read."""

    def __init__(self, model: Any, writer: ModelWriter) -> None:
        self._model = model
        self._writer = writer
        self._static = StaticProducts(model)

    def place(self, sites: Iterable[WeightSite], weight: QuantizedTensor) -> None:
        """Make every tensor at ``sites`` the constant ``weight``.

        Raises:
            ConversionError: An operation reads the input that cannot read this form.
        """
        buffer = self._store(_stored_form(weight))
        scales = None
        quantization = SharedQuantization() if weight.scales is not None else None
        if quantization is not None and weight.scales is not None:
            if weight.block_size:
                scales = self._store(weight.scales.astype(np.float16))
            else:
                quantization.scale = weight.scales.astype(np.float32)
                quantization.zeroPoint = np.zeros(len(weight.scales), np.int64)
        for site in sites:
            subgraph = self._model.subgraphs[site.subgraph]
            tensor = subgraph.tensors[site.tensor]
            tensor.buffer = buffer
            tensor.type = _TYPES[weight.bits]
            tensor.quantization = (
                quantization
                if scales is None
                else self._blockwise(subgraph, tensor.name, scales, weight)
            )
            self._adapt_readers(subgraph, site.tensor, weight)

    def _store(self, values: np.ndarray) -> int:
        self._model.buffers.append(self._writer.add(values))
        return len(self._model.buffers) - 1

    def _blockwise(self, subgraph: Any, name: bytes, scales: int, weight: QuantizedTensor) -> Any:
        """Blockwise scales are a float16 tensor of the same subgraph, ``[out, in / block]``."""
        tensor = schema.TensorT()
        tensor.name = name + b"_scales"
        tensor.type = _Type.FLOAT16
        tensor.shape = np.array(weight.scales.shape, np.int32)  # type: ignore[union-attr]
        tensor.buffer = scales
        subgraph.tensors.append(tensor)
        details = schema.BlockwiseQuantizationT()
        details.scales = len(subgraph.tensors) - 1
        details.zeroPoints = -1
        details.blockSize = weight.block_size
        quantization = schema.QuantizationParametersT()
        quantization.detailsType = schema.QuantizationDetails.BlockwiseQuantization
        quantization.details = details
        return quantization

    def _adapt_readers(self, subgraph: Any, at: int, weight: QuantizedTensor) -> None:
        floating: int | None = None
        for position, operator in reversed(list(enumerate(subgraph.operators))):
            if at not in operator.inputs:
                continue
            code = operator_code(self._model, operator)
            if code == _Op.GATHER and weight.bits == 16:
                self._look_up_halves(subgraph, position)
            elif code == _Op.GATHER:
                self._look_up(operator, weight.bits)
            elif weight.bits == 32:
                continue
            elif code != _Op.FULLY_CONNECTED:
                raise ConversionError(
                    f"{subgraph.tensors[at].name.decode()} is read by an operation that takes "
                    f"float32; expected the quantizer to leave it at 32 bits, not {weight.bits}"
                )
            elif weight.activations == "static":
                self._static.rewrite(subgraph, operator, weight)
            elif weight.activations == "dynamic":
                version = _FULLY_CONNECTED_VERSION[weight.bits]
                operator.opcodeIndex = operator_index(self._model, code, version)
                operator.builtinOptions.asymmetricQuantizeInputs = True
            else:
                if floating is None:
                    floating = _float_copy(subgraph, at)
                operator.inputs = np.where(operator.inputs == at, floating, operator.inputs)
        if floating is not None:
            subgraph.operators.insert(0, self._dequantize(at, floating))

    def _look_up(self, operator: Any, bits: int) -> None:
        version = _EMBEDDING_LOOKUP_VERSION[bits]
        operator.opcodeIndex = operator_index(self._model, _Op.EMBEDDING_LOOKUP, version)
        table, ids = operator.inputs
        operator.inputs = np.array([ids, table], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.NONE
        operator.builtinOptions = None

    def _look_up_halves(self, subgraph: Any, position: int) -> None:
        """EMBEDDING_LOOKUP has no float16 form: gather the rows, then widen them."""
        gather = subgraph.operators[position]
        rows = int(gather.outputs[0])
        halves = copy_tensor(subgraph, rows, b"_float16", _Type.FLOAT16)
        gather.outputs = np.array([halves], np.int32)
        subgraph.operators.insert(position + 1, self._dequantize(halves, rows))

    def _dequantize(self, source: int, target: int) -> Any:
        return new_operator(self._model, _Op.DEQUANTIZE, 5, [source], [target])


def _stored_form(weight: QuantizedTensor) -> np.ndarray:
    if weight.bits != 4:
        return weight.values
    # Two values to a byte, the first in the low half.
    flat = weight.values.reshape(-1).view(np.uint8)
    flat = np.append(flat, np.uint8(0)) if flat.size % 2 else flat
    packed = flat[1::2] << 4
    packed |= flat[0::2] & 0x0F
    return packed


def _float_copy(subgraph: Any, at: int) -> int:
    return copy_tensor(subgraph, at, b"_float32", _Type.FLOAT32)
