"""Eight-bit weights with one scale per row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight, row_chunks

_LARGEST = 127
# The runtime refuses scales that are zero or subnormal.
_SMALLEST_SCALE = np.finfo(np.float32).tiny


@dataclass(frozen=True)
class Int8:
    """One byte per parameter: each row is rounded to multiples of its largest magnitude / 127.

    Attributes:
        name: ``dynamic_range`` or ``weight_only_int8``, after TFLite's own terms.
        activations: ``"dynamic"`` is the fast one, multiplying integers; ``"float"`` restores
            float weights at run time and rounds nothing else.
        lossless: False.
    """

    name: str
    activations: Literal["float", "dynamic"]
    lossless: bool = False

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {"bits": 8, "granularity": "row", "activations": self.activations}

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` in int8; a row of zeros gets the scale 1."""
        integers = np.empty(values.shape, np.int8)
        scales = np.empty(len(values), np.float32)
        for rows in row_chunks(values):
            chunk = values[rows]
            largest = np.abs(chunk).max(axis=1)
            scale = np.maximum(largest / _LARGEST, _SMALLEST_SCALE)
            scales[rows] = np.where(largest > 0, scale, 1)
            rounded = np.rint(chunk / scales[rows, np.newaxis])
            integers[rows] = np.clip(rounded, -_LARGEST, _LARGEST, out=rounded)
        return QuantizedTensor(integers, bits=8, scales=scales, activations=self.activations)
