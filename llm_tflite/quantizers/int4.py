"""Four-bit weights in small blocks or whole rows, each with the scale that loses least."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm_tflite.quantization import JSON, QuantizedTensor, Weight, row_chunks

from .block_scales import LARGEST_VALUE, Floats, best_scales, round_blocks
from .error_feedback import round_with_feedback
from .int8 import Int8

_INT8 = Int8("dynamic_range", activations="dynamic")


@dataclass(frozen=True)
class Int4:
    """Stores projections in 4 bits, and embeddings in int8 rows.

    Embedding rows are read one at a time, so halving them would save no time, and a tied head
    decides every token. With calibration texts, rounding makes up for its own errors.

    Attributes:
        name: Such as ``int4``.
        block_size: How many neighbours in a row share a scale of 16 bits: 32, the smallest that
            XNNPACK takes, or a multiple of it; 0 for one scale per row.
        least_agreement: The share of greedy tokens on the calibration texts that must be Keras' own
            for a file to be written.
        lossless: False.
        takes_calibration: True.
    """

    name: str = "int4"
    block_size: int = 32
    least_agreement: float = 0.5
    lossless: bool = False
    takes_calibration: bool = True

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        projection: dict[str, JSON] = {
            "bits": 4,
            "block_size": self.block_size,
            "activations": "dynamic",
        }
        return {"projection": projection, "embedding": _INT8.describe()}

    def quantize(self, weight: Weight, values: Floats) -> QuantizedTensor:
        """Return a projection in 4 bits, or in int8 where those cannot be."""
        if weight.role == "embedding":
            return _INT8.quantize(weight, values)
        obstacle = self._obstacle(values)
        if obstacle:
            return replace(_INT8.quantize(weight, values), note=f"{obstacle}: kept at 8 bits")
        if weight.moments is None:
            integers, scales = _round_nearest(values, self.block_size)
        else:
            integers, scales = round_with_feedback(values, self.block_size, weight.moments)
        return QuantizedTensor(
            integers, bits=4, scales=scales, block_size=self.block_size, activations="dynamic"
        )

    def _obstacle(self, values: Floats) -> str:
        """Say why ``values`` do not fit the format, if they do not."""
        columns = values.shape[1]
        multiple = self.block_size or 2
        if columns % multiple:
            return f"in-dimension {columns} is not a multiple of {multiple}"
        largest = max(float(values.max()), -float(values.min()))
        if largest > LARGEST_VALUE:
            return f"a value of magnitude {largest:.6g} exceeds float16 scales"
        return ""


def _round_nearest(values: Floats, block_size: int) -> tuple[npt.NDArray[np.int8], Floats]:
    rows, columns = values.shape
    size = block_size or columns
    integers = np.empty((rows, columns), np.int8)
    scales = np.empty((rows, columns // size), np.float32)
    for chunk in row_chunks(values):
        blocks = np.ascontiguousarray(values[chunk].reshape(-1, size).T)
        best = best_scales(blocks)
        scales[chunk] = best.reshape(-1, scales.shape[1])
        integers[chunk] = round_blocks(blocks, best).T.reshape(-1, columns)
    return integers, scales if block_size else scales[:, 0]
