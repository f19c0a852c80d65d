"""Four bits without calibration, for comparison: what ``int4`` has to beat at the same size."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight
from llm_tflite.quantizers.block_scales import round_blocks, storable
from llm_tflite.quantizers.int4 import Int4


@dataclass(frozen=True)
class WithoutTexts(Int4):
    """``int4`` as it is where no calibration texts are given."""

    name: str = "int4-without-texts"
    takes_calibration: bool = False


@dataclass(frozen=True)
class RoundToNearest(WithoutTexts):
    """The largest magnitude of each block is 7, and every value goes to the nearest integer."""

    name: str = "int4-round-to-nearest"

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {**super().describe(), "scales": "largest magnitude / 7"}

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values`` in the form that ``int4`` chooses, with scales of its own."""
        tensor = super().quantize(weight, values)
        if tensor.bits != 4:
            return tensor
        blocks = values.reshape(-1, self.block_size).T
        largest = np.abs(blocks).max(axis=0)
        scales = np.where(largest > 0, storable(largest / 7), np.float32(1))
        integers = round_blocks(blocks, scales).T.reshape(values.shape).astype(np.int8)
        return replace(tensor, values=integers, scales=scales.reshape(len(values), -1))
