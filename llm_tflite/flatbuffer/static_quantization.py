"""Products of int8 with int8 to int8, between a QUANTIZE and a DEQUANTIZE."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..activations import ActivationScale
from ..errors import ConversionError
from ..quantization import QuantizedTensor
from .model import SharedQuantization, copy_tensor, operator_index

_Op = schema.BuiltinOperator
_Type = schema.TensorType
# As in weights.py; runtimes that know no scale per row of an int8 product are older than 12.
_FULLY_CONNECTED_VERSION, _QUANTIZE_VERSION, _DEQUANTIZE_VERSION = 12, 1, 2
# Leaves room for the product that a bias is added to, in 32 bits.
_LARGEST_BIAS = 2**30
_SUFFIX = b"_quantized"


class StaticProducts:
    """Makes products of a model static; an activation that several of them read is shared."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._quantized: dict[tuple[int, int, ActivationScale], int] = {}
        self._biases: dict[tuple[bytes, bytes], tuple[int, Any]] = {}

    def rewrite(self, subgraph: Any, operator: Any, weight: QuantizedTensor) -> None:
        """Turn a FULLY_CONNECTED of floats, whose weight is in place, into one of integers.

        Raises:
            ConversionError: Its bias is no constant, or too large for the scales.
        """
        if weight.input is None or weight.output is None or weight.scales is None:
            raise ConversionError("expected a weight with scales for its input and its output")
        steps = np.float32(weight.input.scale) * weight.scales
        source, table, *bias = (int(index) for index in operator.inputs)
        operator.opcodeIndex = operator_index(
            self._model, _Op.FULLY_CONNECTED, _FULLY_CONNECTED_VERSION
        )
        inputs = [self._quantize(subgraph, source, weight.input), table]
        inputs += [self._bias(subgraph, index, steps) if index >= 0 else -1 for index in bias]
        operator.inputs = np.array(inputs, np.int32)
        target = int(operator.outputs[0])
        output = copy_tensor(subgraph, target, _SUFFIX, _Type.INT8, _parameters(weight.output))
        operator.outputs = np.array([output], np.int32)
        position = next(i for i, other in enumerate(subgraph.operators) if other is operator)
        subgraph.operators.insert(
            position + 1,
            self._operator(_Op.DEQUANTIZE, _DEQUANTIZE_VERSION, output, target),
        )

    def _quantize(self, subgraph: Any, source: int, scale: ActivationScale) -> int:
        key = (id(subgraph), source, scale)
        if key not in self._quantized:
            target = copy_tensor(subgraph, source, _SUFFIX, _Type.INT8, _parameters(scale))
            # Right behind what makes it, so that all of its readers come later.
            makers = [i for i, o in enumerate(subgraph.operators) if source in o.outputs]
            subgraph.operators.insert(
                makers[0] + 1 if makers else 0,
                self._operator(_Op.QUANTIZE, _QUANTIZE_VERSION, source, target),
            )
            self._quantized[key] = target
        return self._quantized[key]

    def _bias(self, subgraph: Any, at: int, scales: np.ndarray) -> int:
        """An int32 copy of a bias, in units of the input's scale times the row's."""
        name = subgraph.tensors[at].name.decode()
        data = self._model.buffers[subgraph.tensors[at].buffer].data
        if data is None:
            raise ConversionError(
                f"expected the bias {name} to be a constant; use the quantizer 'dynamic_range'"
            )
        values = np.frombuffer(bytes(data), np.float32)
        integers = np.rint(values / scales.astype(np.float64))
        if not (np.abs(integers) <= _LARGEST_BIAS).all():
            raise ConversionError(
                f"expected the bias {name} to fit in 32 bits beside its weights; the largest is "
                f"{np.abs(integers).max():.3g} steps: use the quantizer 'dynamic_range'"
            )
        buffer, parameters = self._stored(integers.astype(np.int32), scales)
        index = copy_tensor(subgraph, at, _SUFFIX, _Type.INT32, parameters)
        subgraph.tensors[index].buffer = buffer
        return index

    def _stored(self, bias: np.ndarray, scales: np.ndarray) -> tuple[int, Any]:
        """Index of the buffer and the scales of a bias, the same for every signature."""
        key = (bias.tobytes(), scales.tobytes())
        if key not in self._biases:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(key[0], np.uint8)
            self._model.buffers.append(buffer)
            parameters = SharedQuantization()
            parameters.scale = scales
            parameters.zeroPoint = np.zeros(len(scales), np.int64)
            self._biases[key] = (len(self._model.buffers) - 1, parameters)
        return self._biases[key]

    def _operator(self, code: int, version: int, source: int, target: int) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = operator_index(self._model, code, version)
        operator.inputs = np.array([source], np.int32)
        operator.outputs = np.array([target], np.int32)
        return operator


def _parameters(scale: ActivationScale) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.array([scale.scale], np.float32)
    parameters.zeroPoint = np.array([scale.zero_point], np.int64)
    return parameters
