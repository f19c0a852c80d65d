"""What quantization took from each matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact
from ..errors import InvalidOptionError
from ..progress import Progress
from ..progress import Report as Reporter
from .references import Reference, artifact_weights

_CHUNK_ROWS = 1024


@dataclass(frozen=True)
class MatrixError:
    """How far one stored matrix is from the model's own.

    Attributes:
        name: Path of the Keras variable.
        role: ``embedding``, ``projection``, or ``table``.
        shape: As stored, ``(out, in)``.
        bits: Per value.
        block_size: Values that share a scale; 0 for a whole row.
        bytes: In the file, scales included.
        error: Root mean square of the differences, divided by that of the values: 0 is exact, and
            1 what zeros instead of the matrix would have.
    """

    name: str
    role: str
    shape: tuple[int, ...]
    bits: int
    block_size: int
    bytes: int
    error: float


def matrix_errors(
    artifact: Artifact, reference: Reference, report: Reporter
) -> tuple[MatrixError, ...]:
    """Compare every stored weight with the reference's, the worst first.

    Raises:
        InvalidOptionError: The reference lacks one of them.
        IncompatibleArtifactError: The file cannot be read back.
    """
    known = reference.matrices(artifact.manifest)
    stored = artifact_weights(artifact)
    errors = []
    for done, (weight, values) in enumerate(stored):
        report(Progress("comparing matrices", done, len(stored)))
        own = known.get((weight.name, weight.shape))
        if own is None:
            raise InvalidOptionError(
                f"the reference must be the model that the file was made of; it has no "
                f"{weight.name} of shape {list(weight.shape)}"
            )
        errors.append(
            MatrixError(
                name=weight.name,
                role=weight.role,
                shape=weight.shape,
                bits=weight.bits,
                block_size=weight.block_size,
                bytes=weight.bytes,
                error=relative_error(own(), values.dequantize()),
            )
        )
    report(Progress("comparing matrices", len(stored), len(stored)))
    return tuple(sorted(errors, key=lambda matrix: -matrix.error))


def relative_error(expected: npt.NDArray[np.float32], found: npt.NDArray[np.float32]) -> float:
    """Root mean square of the difference, divided by that of ``expected``."""
    lost = whole = 0.0
    for start in range(0, len(expected), _CHUNK_ROWS):
        rows = slice(start, start + _CHUNK_ROWS)
        values = expected[rows].astype(np.float64)
        whole += float(np.square(values).sum())
        lost += float(np.square(found[rows] - values).sum())
    return float(np.sqrt(lost / whole)) if lost else 0.0
