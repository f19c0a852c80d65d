"""What a quantization strategy is given, what it gives back, and the one way to call it.

A strategy is plain numpy: it sees one matrix at a time, after tracing, and never the model; one
with a ``plan`` sees all of them before. All quantization here is symmetric (no zero points), as
TFLite asks of weights: https://ai.google.dev/edge/litert/models/quantization_spec
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, TypeGuard, cast

import numpy as np
import numpy.typing as npt

from .activations import ActivationScale, ActivationStatistics, Moments, problem_of_scales
from .errors import InvalidOptionError, MissingDependencyError, QuantizationError
from .plugin_object import json_object, method_problem, name_problem, parameter_step

Role: TypeAlias = Literal["embedding", "projection", "table"]
JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"

# Matrices are walked in slices of this size, so that temporaries stay small beside the model.
_CHUNK_BYTES = 4 << 20

_OPTIONAL_STEPS = ("plan", "with_parameter", "parameters")

# On stories15M dynamic_range comes to 0.97 and full_integer to 0.95; what is visibly worse comes to
# 0.87 and less.
_LEAST_AGREEMENT = 0.9

_DTYPES: Mapping[int, type[np.generic]] = {32: np.float32, 16: np.float16, 8: np.int8, 4: np.int8}
# TFLite's kernels rely on -128 never being a weight; 4-bit blocks use their whole range.
_RANGES: Mapping[int, tuple[int, int]] = {8: (-127, 127), 4: (-8, 7)}


@dataclass(frozen=True)
class Weight:
    """A matrix of the model, as a strategy may want to know it.

    Attributes:
        name: Path of the Keras variable.
        role: ``"embedding"`` when rows are looked up by token id, else ``"projection"``;
            ``"table"`` for what only ``plan`` is shown: it is read as it is and stays in float32.
        shape: ``(out, in)``; each of the ``out`` rows makes one output channel, or is one token.
        tied: Whether an embedding is also multiplied, as the head of the model.
        layer: Index of the decoder layer, when the path tells it.
        statistics: What was multiplied with it and came out, for strategies that need calibration;
            None for others, and for matrices that are looked up only.
        moments: Second moments of what was multiplied with it, for strategies that take calibration
            where there are texts; None for others, and for what no plain product reads.
    """

    name: str
    role: Role
    shape: tuple[int, int]
    tied: bool = False
    layer: int | None = None
    statistics: ActivationStatistics | None = None
    moments: Moments | None = None


# All matrices of a model, one after the other: reading the next one lets the last one go.
Matrices: TypeAlias = Iterable[tuple[Weight, npt.NDArray[np.float32]]]


@dataclass(frozen=True, eq=False)
class QuantizedTensor:
    """A matrix as the file stores it.

    Attributes:
        values: ``[out, in]``, float32, float16 or int8; 4-bit values are int8 within [-8, 7].
        bits: 32, 16, 8 or 4.
        scales: float32; ``[out]`` for one per row, ``[out, in // block_size]`` for one per block,
            ``None`` for floating-point values.
        block_size: How many neighbours in a row share a scale; 0 for the whole row.
        activations: ``"dynamic"`` when the runtime shall quantize each row of activations to int8
            and multiply integers, ``"float"`` when it shall multiply in floating point,
            ``"static"`` when it shall multiply integers between ``input`` and ``output`` (8 bits,
            a scale per row).
        note: Why this matrix was kept at more bits than its strategy promises, if it was.
        input: How integers stand for what is multiplied with the matrix; for ``"static"`` only.
        output: How integers of as many bits stand for what comes out.
    """

    values: npt.NDArray[Any]
    bits: int
    scales: npt.NDArray[np.float32] | None = None
    block_size: int = 0
    activations: Literal["float", "dynamic", "static"] = "float"
    note: str = ""
    input: ActivationScale | None = None
    output: ActivationScale | None = None

    @property
    def size_bytes(self) -> int:
        """What it takes in the file, scales included."""
        scales = 0 if self.scales is None else self.scales.size * (2 if self.block_size else 4)
        return (self.values.size * self.bits + 7) // 8 + scales

    def dequantize(self) -> npt.NDArray[np.float32]:
        """Return the matrix that the model will multiply with, as float32 ``[out, in]``."""
        if self.scales is None:
            return self.values.astype(np.float32)
        rows, columns = self.values.shape
        blocks = self.values.reshape(rows, -1, self.block_size or columns)
        scales = self.scales.reshape(rows, -1, 1)
        product: npt.NDArray[np.float32] = np.multiply(blocks, scales, dtype=np.float32)
        return product.reshape(rows, columns)

    def validate(self, weight: Weight) -> None:
        """Refuse a tensor that cannot be stored, or that cannot stand for ``weight``.

        Raises:
            QuantizationError: Naming the weight, what was expected and what was found.
        """
        problem = self._problem(weight.shape)
        if problem:
            raise QuantizationError(f"the quantized form of weight {weight.name!r} {problem}")

    def _problem(self, shape: tuple[int, int]) -> str | None:
        dtype = _DTYPES.get(self.bits)
        if dtype is None:
            return f"must have 4, 8, 16 or 32 bits, not {self.bits!r}"
        if not _is_array(self.values, dtype):
            return f"must be of {np.dtype(dtype)} at {self.bits} bits, not {_kind(self.values)}"
        if self.values.shape != shape:
            return f"must have shape {shape}, not {self.values.shape}"
        if self.activations not in ("float", "dynamic", "static"):
            return f"must have 'float', 'dynamic' or 'static' activations, not {self.activations!r}"
        problem = self._activations_problem()
        if problem or self.bits >= 16:
            return problem or self._float_problem()
        return self._range_problem() or self._scales_problem(shape)

    def _activations_problem(self) -> str | None:
        scales = {"input": self.input, "output": self.output}
        if self.activations != "static":
            given = [name for name, scale in scales.items() if scale is not None]
            return (
                f"must have no {given[0]} scale unless activations are 'static'" if given else None
            )
        if self.bits != 8 or self.block_size:
            return "must have 8 bits and one scale per row, as its activations are 'static'"
        problem = problem_of_scales(**scales)
        return f"must have {problem}" if problem else None

    def _float_problem(self) -> str | None:
        if self.scales is not None or self.block_size:
            return f"must have no scales, as its values are {self.values.dtype}"
        if count_nonfinite(self.values):
            return f"has values that are infinite or NaN in {self.values.dtype}"
        return None

    def _range_problem(self) -> str | None:
        low, high = _RANGES[self.bits]
        found = int(self.values.min()), int(self.values.max())
        if found[0] < low or found[1] > high:
            return f"must stay within [{low}, {high}], but spans {list(found)}"
        return None

    def _scales_problem(self, shape: tuple[int, int]) -> str | None:
        rows, columns = shape
        if not isinstance(self.block_size, int) or self.block_size < 0:
            return f"must have a block size of 0 or more, not {self.block_size!r}"
        if self.block_size and columns % self.block_size:
            return f"has blocks of {self.block_size}, which do not divide rows of {columns}"
        expected = (rows, columns // self.block_size) if self.block_size else (rows,)
        scales = self.scales
        if not _is_array(scales, np.float32):
            return f"must have float32 scales, not {_kind(scales)}"
        if scales.shape != expected:
            return f"must have scales of shape {expected}, not {scales.shape}"
        if not (np.isfinite(scales) & (scales > 0)).all():
            return "must have positive, finite scales"
        return None


def _is_array(value: object, dtype: type[np.generic]) -> TypeGuard[npt.NDArray[Any]]:
    return isinstance(value, np.ndarray) and value.dtype == dtype


def _kind(value: object) -> str:
    return str(value.dtype) if isinstance(value, np.ndarray) else type(value).__name__


class QuantizationStrategy(Protocol):
    """Decides how each matrix is stored; anything with these four attributes is one.

    More are optional; docs/hooks.md describes them. ``needs_calibration = True`` and
    ``takes_calibration = True`` ask for ``Weight.statistics`` and ``Weight.moments``, of texts that
    the ``Converter`` must or may be given; the file is refused if fewer than ``least_agreement``
    of its greedy tokens (a share, 0.9 by default) are Keras' own on these texts.
    ``plan(matrices)`` sees all matrices first and returns the strategy that quantizes them.
    ``with_parameter(text)`` is asked for ``NAME:text``; ``parameters()`` lists such texts.
    """

    @property
    def name(self) -> str:
        """What users ask for and the manifest records, such as ``"dynamic_range"``."""

    @property
    def lossless(self) -> bool:
        """Whether the converted model must agree with Keras as floating point does."""

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        ...

    def quantize(self, weight: Weight, values: npt.NDArray[np.float32]) -> QuantizedTensor:
        """Return ``values``, a read-only float32 ``[out, in]`` matrix, as it shall be stored."""
        ...


def check_strategy(candidate: object) -> QuantizationStrategy:
    """Return ``candidate`` if it has all that a strategy needs.

    Raises:
        InvalidOptionError: Saying which attribute is missing or wrong.
    """
    problem = _strategy_problem(candidate)
    if problem:
        raise InvalidOptionError(
            "expected a quantization strategy (name, lossless, describe() and quantize(), see "
            f"llm_tflite.QuantizationStrategy), but {problem}"
        )
    return cast(QuantizationStrategy, candidate)


def _strategy_problem(candidate: object) -> str | None:
    if problem := name_problem(candidate, "'int4' or 'aeq:wi8'"):
        return problem
    kind = type(candidate).__name__
    if not isinstance(getattr(candidate, "lossless", None), bool):
        return f"{kind}.lossless is not True or False"
    for asks in ("needs_calibration", "takes_calibration"):
        if not isinstance(getattr(candidate, asks, False), bool):
            return f"{kind}.{asks} is not True or False"
    least = least_agreement(candidate)
    if isinstance(least, bool) or not isinstance(least, int | float) or not 0 <= least <= 1:
        return f"{kind}.least_agreement is {least!r:.80}; it is a share from 0 to 1"
    return method_problem(candidate, ("describe", "quantize"), _OPTIONAL_STEPS)


def needs_calibration(strategy: object) -> bool:
    """Whether a strategy cannot do without statistics of activations."""
    return cast(bool, getattr(strategy, "needs_calibration", False))


def takes_calibration(strategy: object) -> bool:
    """Whether a strategy uses second moments of activations where there are any."""
    return cast(bool, getattr(strategy, "takes_calibration", False))


def uses_calibration(strategy: object) -> bool:
    """Whether calibration texts make a difference to a strategy."""
    return needs_calibration(strategy) or takes_calibration(strategy)


def least_agreement(strategy: object) -> float:
    """The share of greedy tokens that must be Keras' own, for strategies that are calibrated."""
    return cast(float, getattr(strategy, "least_agreement", _LEAST_AGREEMENT))


def with_parameter(strategy: QuantizationStrategy, parameter: str) -> QuantizationStrategy:
    """Return the strategy that is asked for as ``NAME:parameter``.

    Raises:
        InvalidOptionError: ``strategy`` takes no parameter, or not this one.
        QuantizationError: It fails on it.
    """
    step = parameter_step("quantizer", strategy, parameter)
    with _failures_of(strategy, f"the parameter {parameter!r:.80}"):
        parameterized = step(parameter)
    return check_strategy(parameterized)


def plan(strategy: QuantizationStrategy, matrices: Matrices) -> QuantizationStrategy:
    """Return the strategy that quantizes, once ``strategy`` has seen everything, if it asks to.

    Args:
        strategy: A built-in or anybody's.
        matrices: What the file will hold; not read for a strategy without a plan.

    Raises:
        QuantizationError: A weight is not finite, or the strategy fails or cannot do what it should
            with these matrices.
    """
    step = getattr(strategy, "plan", None)
    if step is None:
        return strategy
    with _failures_of(strategy, "plan()"):
        return check_strategy(step(_checked(weight, values) for weight, values in matrices))


def describe(strategy: QuantizationStrategy) -> dict[str, Any]:
    """Return what ``strategy`` says of itself, as a JSON object of its own.

    Raises:
        QuantizationError: If it fails, or says something that JSON cannot hold.
    """
    with _failures_of(strategy, "describe()"):
        return json_object(strategy.describe())


def quantize(
    strategy: QuantizationStrategy, weight: Weight, values: npt.NDArray[np.float32]
) -> QuantizedTensor:
    """Return ``values`` as ``strategy`` stores them, checked before and after.

    Args:
        strategy: A built-in or anybody's.
        weight: What the matrix is.
        values: float32 ``[out, in]``; the strategy gets a read-only view of it.

    Raises:
        QuantizationError: If the weight is not finite, or the strategy fails on it or returns
            something that cannot be stored.
    """
    weight, view = _checked(weight, values)
    with _failures_of(strategy, f"weight {weight.name!r}"):
        tensor = strategy.quantize(weight, view)
    if not isinstance(tensor, QuantizedTensor):
        raise QuantizationError(
            f"the quantizer {strategy.name!r} must return a QuantizedTensor for weight "
            f"{weight.name!r}, not {type(tensor).__name__}"
        )
    tensor.validate(weight)
    return tensor


def _checked(
    weight: Weight, values: npt.NDArray[np.float32]
) -> tuple[Weight, npt.NDArray[np.float32]]:
    """A finite matrix, read-only."""
    check_finite(weight, values)
    view = values.view()
    view.flags.writeable = False
    return weight, view


@contextmanager
def _failures_of(strategy: QuantizationStrategy, task: str) -> Iterator[None]:
    """Turn whatever a strategy raises, ``SystemExit`` included, into an error of ours."""
    try:
        yield
    except (QuantizationError, InvalidOptionError, MissingDependencyError):
        raise
    except (Exception, SystemExit) as error:
        raise QuantizationError(
            f"the quantizer {strategy.name!r} failed on {task}: {type(error).__name__}: {error}"
        ) from error


def check_finite(weight: Weight, values: npt.NDArray[np.float32]) -> None:
    """Refuse a matrix that holds NaN or infinity, which no integers can stand for.

    Raises:
        QuantizationError: Naming the weight and how many of its values are not finite.
    """
    count = count_nonfinite(values)
    if count:
        raise QuantizationError(
            f"weight {weight.name!r} must be finite, but {count} of its {values.size} values are "
            "NaN or infinite; the model is damaged or its training diverged"
        )


def count_nonfinite(values: npt.NDArray[Any]) -> int:
    """Return how many values are NaN or infinite."""
    return sum(
        values[rows].size - int(np.isfinite(values[rows]).sum()) for rows in row_chunks(values)
    )


def row_chunks(values: npt.NDArray[Any]) -> Iterator[slice]:
    """Yield slices of consecutive rows that cover ``values``, each a few megabytes of float32."""
    rows, columns = values.shape
    step = max(1, _CHUNK_BYTES // (4 * max(1, columns)))
    for start in range(0, rows, step):
        yield slice(start, min(start + step, rows))
