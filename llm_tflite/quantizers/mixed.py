"""Four bits where they cost least, eight elsewhere: by a rule, or by what was measured."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from llm_tflite.activations import Moments
from llm_tflite.errors import InvalidOptionError, QuantizationError
from llm_tflite.quantization import JSON, Matrices, QuantizedTensor, Weight

from .int4 import Int4
from .int8 import Int8

_INT4 = Int4()
_INT8 = Int8("dynamic_range", activations="dynamic")
_ATTENTION = re.compile("attention|attn")


@dataclass(frozen=True)
class Mixed:
    """Four bits for the feed-forward part of each layer, eight for attention, head and embeddings.

    Attributes:
        name: ``mixed``.
        least_agreement: As for ``int4``.
        lossless: False.
        takes_calibration: True.
    """

    name: str = "mixed"
    least_agreement: float = _INT4.least_agreement
    lossless: bool = False
    takes_calibration: bool = True

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {"feed_forward": _INT4.describe()["projection"], "others": _INT8.describe()}

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return a matrix in 4 or 8 bits, by the path of its variable."""
        feed_forward = weight.layer is not None and not _ATTENTION.search(weight.name)
        return (_INT4 if feed_forward else _INT8).quantize(weight, values)

    def with_parameter(self, parameter: str) -> MixedBudget:
        """Return the strategy of ``mixed:BYTES``.

        Raises:
            InvalidOptionError: It is no number of bytes.
        """
        try:
            budget = float(parameter)
        except ValueError:
            budget = math.nan
        if not 0 < budget < math.inf:
            raise InvalidOptionError(
                f"expected bytes per parameter, such as 0.9 in 'mixed:0.9'; got {parameter!r:.80}"
            )
        return MixedBudget(budget, name=f"{self.name}:{parameter}")


@dataclass(frozen=True)
class MixedBudget:
    """Four or eight bits for each projection, so that a file stays within a size and loses least.

    After a calibration, what a matrix loses is what the loss of the model on the texts does: the
    errors of its output, each squared and weighted with Fisher's information of that output
    (``tracing/sensitivity.py``). Without one, it is the energy of its errors as a share of its own,
    which counts as often as there are values. Eight bits go where they save most of it for a byte.

    Attributes:
        bytes_per_parameter: Of all weights that the file stores, scales and embeddings included.
        name: Such as ``mixed:0.9``.
        eight_bits: Names of the projections that get them; None until all matrices were seen.
        least_agreement: As for ``int4``.
        lossless: False.
        takes_calibration: True.
    """

    bytes_per_parameter: float
    name: str
    eight_bits: frozenset[str] | None = None
    least_agreement: float = _INT4.least_agreement
    lossless: bool = False
    takes_calibration: bool = True

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        return {
            "bytes_per_parameter": self.bytes_per_parameter,
            "four_bits": _INT4.describe()["projection"],
            "eight_bits": _INT8.describe(),
        }

    def plan(self, matrices: Matrices) -> MixedBudget:
        """Choose where eight bits go.

        Raises:
            QuantizationError: Four bits everywhere are too large, or eight are small enough.
        """
        choices = [_Choice.between(weight, values) for weight, values in matrices]
        # A share and a loss in nats cannot be compared.
        in_nats = all(choice.nats is not None for choice in choices if choice.has_choice)
        parameters = sum(choice.parameters for choice in choices)
        budget = self.bytes_per_parameter * parameters
        least = sum(choice.small for choice in choices)
        most = sum(choice.large for choice in choices)
        if not least <= budget < most:
            raise QuantizationError(
                f"expected at least {math.ceil(1e4 * least / parameters) / 1e4} bytes per "
                f"parameter, which 4 bits take in this model, and less than "
                f"{most / parameters:.4f}, which 'dynamic_range' takes; got {self.name!r}"
            )
        eight_bits = set()
        room = budget - least
        for choice in sorted(choices, key=lambda choice: (-choice.gain(in_nats), choice.name)):
            if choice.has_choice and choice.large - choice.small <= room:
                eight_bits.add(choice.name)
                room -= choice.large - choice.small
        return replace(self, eight_bits=frozenset(eight_bits))

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return a matrix in the bits that were chosen for it."""
        if self.eight_bits is None:
            raise QuantizationError(f"{self.name!r} must see all matrices first: call plan()")
        return (_INT8 if weight.name in self.eight_bits else _INT4).quantize(weight, values)


@dataclass(frozen=True)
class _Choice:
    """What 4 and 8 bits cost for one matrix; the same where there is no choice.

    Attributes:
        name: The weight's.
        parameters: Values of the matrix.
        small: Bytes at 4 bits.
        large: Bytes at 8 bits.
        share: What 8 bits save of the errors' share of all energy, for each value of the matrix.
        nats: What they save of the loss; None where the calibration says nothing of it.
    """

    name: str
    parameters: int
    small: int
    large: int
    share: float = 0.0
    nats: float | None = None

    @classmethod
    def between(cls, weight: Weight, values: npt.NDArray[np.float32]) -> _Choice:
        if weight.role == "table":
            return cls(weight.name, values.size, values.nbytes, values.nbytes)
        small, large = _INT4.quantize(weight, values), _INT8.quantize(weight, values)
        choice = cls(weight.name, values.size, small.size_bytes, large.size_bytes)
        if not choice.has_choice:
            return choice
        moments = weight.moments
        whole = float(_energies(values, moments).sum())
        saved = _energies(small.dequantize() - values, moments)
        saved -= _energies(large.dequantize() - values, moments)
        share = values.size * float(saved.sum()) / whole if whole else 0.0
        if moments is None or moments.gradients is None:
            return replace(choice, share=share)
        nats = float(np.vdot(moments.gradients, saved)) / moments.rows**2
        return replace(choice, share=share, nats=nats)

    @property
    def has_choice(self) -> bool:
        """Whether 4 bits are smaller."""
        return self.small < self.large

    def gain(self, in_nats: bool) -> float:
        """What 8 bits save, for each byte more."""
        saved = self.nats if in_nats and self.nats is not None else self.share
        return saved / max(self.large - self.small, 1)


def _energies(values: npt.NDArray[np.float32], moments: Moments | None) -> npt.NDArray[np.float64]:
    """For each row, the squares of the outputs for the inputs that calibration saw.

    Without a calibration, the squares of the values.
    """
    if moments is None:
        squares: npt.NDArray[np.float64] = np.square(values, dtype=np.float64).sum(axis=1)
        return squares
    energies, start = np.zeros(len(values)), 0
    for tile in moments.tiles:
        part = values[:, start : start + len(tile)]
        energies += np.einsum("ij,ij->i", part @ tile, part, dtype=np.float64)
        start += len(tile)
    return energies
