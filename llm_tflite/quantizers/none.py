"""The strategy that stores every weight as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight


@dataclass(frozen=True)
class NoQuantization:
    """Keeps weights in float32: four bytes per parameter, and the tokens that Keras gives."""

    name: str = "none"
    lossless: bool = True

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {"bits": 32, "activations": "float"}

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` themselves."""
        return QuantizedTensor(values, bits=32)
