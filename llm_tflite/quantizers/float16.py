"""Half-precision weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class Float16:
    """Halves the file; weights are rounded to 11 significant bits and multiplied in float."""

    name: str = "float16"
    lossless: bool = False

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {"bits": 16, "activations": "float"}

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` in float16, or in float32 if one of them is too large for it."""
        largest = max(float(values.max()), -float(values.min()))
        if largest > _LARGEST:
            note = f"a value of magnitude {largest:.6g} exceeds float16: kept at 32 bits"
            return QuantizedTensor(values, bits=32, note=note)
        return QuantizedTensor(values.astype(np.float16), bits=16)
