"""Products of integers to integers, between a QUANTIZE and a DEQUANTIZE.

Matrices are int8; what goes in and comes out is int8 as well, or int16.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ..activations import ActivationScale
from ..errors import ConversionError
from ..quantization import QuantizedTensor, row_chunks
from .model import SharedQuantization, copy_tensor, new_operator, operator_index

_Op = schema.BuiltinOperator
_Type = schema.TensorType
# By the bits of activations.
_TYPES = {8: _Type.INT8, 16: _Type.INT16}
_BIAS_DTYPES = {8: np.int32, 16: np.int64}
_BIAS_TYPES = {np.dtype(np.int32): _Type.INT32, np.dtype(np.int64): _Type.INT64}
# As in weights.py; runtimes that know no scale per row of an int8 product are older than 12, and
# those that would not read the type of an int16 product's bias older than 11.
_FULLY_CONNECTED_VERSION = {8: 12, 16: 11}
_QUANTIZE_VERSION = {8: 1, 16: 2}
_DEQUANTIZE_VERSION = {8: 2, 16: 3}
# Leaves room for the product that a bias is added to, in 32 bits and in the 53 of a double.
_LARGEST_BIAS = {8: 2**30, 16: 2**52}
_LARGEST_INT16 = 2**15
_OVERFLOW = 2**31
_SUFFIX = b"_quantized"


class StaticProducts:
    """Makes products of a model static; an activation that several of them read is shared."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._quantized: dict[tuple[int, int, ActivationScale], int] = {}
        self._biases: dict[tuple[bytes, bytes], tuple[int, Any]] = {}
        self._sums: WeakKeyDictionary[QuantizedTensor, np.ndarray] = WeakKeyDictionary()

    def rewrite(self, subgraph: Any, operator: Any, weight: QuantizedTensor) -> None:
        """Turn a FULLY_CONNECTED of floats, whose weight is in place, into one of integers.

        Raises:
            ConversionError: Its bias is no constant, or too large for the scales; or so may be what
                comes out of an int16 product.
        """
        if weight.input is None or weight.output is None or weight.scales is None:
            raise ConversionError("expected a weight with scales for its input and its output")
        bits = weight.input.bits
        steps = np.float32(weight.input.scale) * weight.scales
        source, table, *bias = (int(index) for index in operator.inputs)
        operator.opcodeIndex = operator_index(
            self._model, _Op.FULLY_CONNECTED, _FULLY_CONNECTED_VERSION[bits]
        )
        integers = [self._integers(subgraph, index, steps, bits) for index in bias if index >= 0]
        if bits == 16 and self._takes_64_bits(
            subgraph.tensors[table].name, weight, steps / np.float64(weight.output.scale), integers
        ):
            operator.builtinOptions.quantizedBiasType = _Type.INT64
        inputs = [self._quantize(subgraph, source, weight.input), table]
        inputs += [
            self._bias(subgraph, index, integers[0], steps) if index >= 0 else -1 for index in bias
        ]
        operator.inputs = np.array(inputs, np.int32)
        target = int(operator.outputs[0])
        output = copy_tensor(subgraph, target, _SUFFIX, _TYPES[bits], _parameters(weight.output))
        operator.outputs = np.array([output], np.int32)
        position = next(i for i, other in enumerate(subgraph.operators) if other is operator)
        subgraph.operators.insert(
            position + 1,
            new_operator(
                self._model, _Op.DEQUANTIZE, _DEQUANTIZE_VERSION[bits], [output], [target]
            ),
        )

    def _quantize(self, subgraph: Any, source: int, scale: ActivationScale) -> int:
        key = (id(subgraph), source, scale)
        if key not in self._quantized:
            dtype = _TYPES[scale.bits]
            target = copy_tensor(subgraph, source, _SUFFIX, dtype, _parameters(scale))
            # Right behind what makes it, so that all of its readers come later.
            makers = [i for i, o in enumerate(subgraph.operators) if source in o.outputs]
            subgraph.operators.insert(
                makers[0] + 1 if makers else 0,
                new_operator(
                    self._model, _Op.QUANTIZE, _QUANTIZE_VERSION[scale.bits], [source], [target]
                ),
            )
            self._quantized[key] = target
        return self._quantized[key]

    def _integers(self, subgraph: Any, at: int, scales: np.ndarray, bits: int) -> np.ndarray:
        """A bias in units of the input's scale times the row's, int32 or int64."""
        name = subgraph.tensors[at].name.decode()
        data = self._model.buffers[subgraph.tensors[at].buffer].data
        if data is None:
            raise ConversionError(
                f"expected the bias {name} to be a constant; use the quantizer 'dynamic_range'"
            )
        values = np.frombuffer(bytes(data), np.float32)
        integers = np.rint(values / scales.astype(np.float64))
        dtype = np.dtype(_BIAS_DTYPES[bits])
        if not (np.abs(integers) <= _LARGEST_BIAS[bits]).all():
            raise ConversionError(
                f"expected the bias {name} to fit in {dtype} beside its weights; the largest is "
                f"{np.abs(integers).max():.3g} steps: use the quantizer 'dynamic_range'"
            )
        return integers.astype(dtype)

    def _takes_64_bits(
        self, name: bytes, weight: QuantizedTensor, steps: np.ndarray, bias: list[np.ndarray]
    ) -> bool:
        """Whether the sums of an int16 product need them; the runtime wraps those of 32 around.

        With the type of the bias, the runtime chooses that of the sums: ``EvalQuantized`` of
        ``tflite/kernels/fully_connected.cc``, github.com/google-ai-edge/LiteRT. It is exact with
        either, but takes up to ten times as long in 64 bits (docs/measurements.md).
        """
        if weight not in self._sums:
            chunks = (weight.values[rows] for rows in row_chunks(weight.values))
            sums = [np.abs(chunk).sum(axis=1, dtype=np.int64) for chunk in chunks]
            self._sums[weight] = np.concatenate(sums) * _LARGEST_INT16
        largest = sum((np.abs(values) for values in bias), start=self._sums[weight])
        if not (largest * steps < _OVERFLOW).all():
            raise ConversionError(
                f"expected {name.decode()} to give at most 65,536 times the range of its output; "
                f"it may give {(largest * steps).max() / _LARGEST_INT16:.3g} times as much: use "
                "the quantizer 'dynamic_range', or calibrate on more text"
            )
        return bool(bias) or not (largest < _OVERFLOW).all()

    def _bias(self, subgraph: Any, at: int, integers: np.ndarray, scales: np.ndarray) -> int:
        """A copy of a bias as integers."""
        buffer, parameters = self._stored(integers, scales)
        index = copy_tensor(subgraph, at, _SUFFIX, _BIAS_TYPES[integers.dtype], parameters)
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


def _parameters(scale: ActivationScale) -> Any:
    parameters = schema.QuantizationParametersT()
    parameters.scale = np.array([scale.scale], np.float32)
    parameters.zeroPoint = np.array([scale.zero_point], np.int64)
    return parameters
