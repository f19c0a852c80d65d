"""What goes into a product and comes out of it: how it is spread, and how integers stand for it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_BINS = 4096  # of which half or more are in use, as the limit is the next power of two
_USUAL = 0.9
# Of int8 and int16.
_LEVELS = {8: (-128, 127), 16: (-32768, 32767)}
# Columns of a matrix whose inputs are seen together; measured in docs/measurements.md.
_TILE = 1024


@dataclass(frozen=True, eq=False)
class Distribution:
    """How often which values were seen, in bins of one width.

    Attributes:
        minimum: The smallest value.
        maximum: The largest one.
        limit: A power of two; the bins divide [-limit, limit] evenly.
        counts: int64, values in each bin.
    """

    minimum: float
    maximum: float
    limit: float
    counts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Distribution:
        """Count finite values, at least one."""
        minimum, maximum = float(values.min()), float(values.max())
        largest = max(-minimum, maximum, float(np.finfo(np.float32).tiny))
        limit = float(2.0 ** np.ceil(np.log2(largest)))
        counts, _ = np.histogram(values, _BINS, (-limit, limit))
        return cls(minimum, maximum, limit, counts.astype(np.int64))

    def __add__(self, other: Distribution) -> Distribution:
        """Both together, in the wider one's bins."""
        limit = max(self.limit, other.limit)
        return Distribution(
            min(self.minimum, other.minimum),
            max(self.maximum, other.maximum),
            limit,
            self._widened(limit) + other._widened(limit),
        )

    def _widened(self, limit: float) -> npt.NDArray[np.int64]:
        counts = self.counts
        merged = round(limit / self.limit)  # a power of two, and so are the bins
        if merged >= _BINS:
            middle = np.zeros(_BINS, np.int64)
            middle[_BINS // 2 - 1] = counts[: _BINS // 2].sum()
            middle[_BINS // 2] = counts[_BINS // 2 :].sum()
            return middle
        kept = counts.reshape(-1, merged).sum(axis=1)
        return np.pad(kept, (_BINS - len(kept)) // 2)

    @property
    def edges(self) -> npt.NDArray[np.float64]:
        """Where bins begin and end, one more than there are bins."""
        return np.linspace(-self.limit, self.limit, _BINS + 1)

    @property
    def span(self) -> tuple[float, float]:
        """Edges of the outermost bins that hold values.

        Noise in the last bits of an activation does not move them, and so stays out of files.
        """
        used = np.flatnonzero(self.counts)
        return float(self.edges[used[0]]), float(self.edges[used[-1] + 1])

    @property
    def usual_magnitude(self) -> float:
        """What nine of ten magnitudes are less than."""
        half = _BINS // 2
        cumulative = np.cumsum(self.counts[half:] + self.counts[:half][::-1])
        place = int(np.searchsorted(cumulative, _USUAL * cumulative[-1]))
        return float(self.edges[half + place + 1])


@dataclass(frozen=True, eq=False)
class Moments:
    """How large the inputs of a matrix are together: the sum of ``x^T x`` over all rows ``x``.

    Only neighbours within a tile of columns are looked at, so that memory grows with the width of
    a matrix and not with its square: one matrix' moments take at most 1024 / ``out`` of what it
    takes.

    Attributes:
        rows: How many were seen.
        tiles: float32 ``[n, n]`` for the first ``n`` columns, the next and so on; 1024 each, and
            what is left for the last.
        gradients: float32 ``[out]``, for strategies with a ``plan``: the sum over all rows of the
            square of the loss' gradient by each output. None where there is none.
    """

    rows: int
    tiles: tuple[npt.NDArray[np.float32], ...]
    gradients: npt.NDArray[np.float32] | None = None

    @classmethod
    def of(cls, values: npt.NDArray[np.float32]) -> Moments:
        """Look at ``[rows, in]``."""
        starts = range(0, values.shape[1], _TILE)
        tiles = (np.ascontiguousarray(values[:, start : start + _TILE]) for start in starts)
        return cls(len(values), tuple(tile.T @ tile for tile in tiles))

    def __add__(self, other: Moments) -> Moments:
        """Both together."""
        tiles = zip(self.tiles, other.tiles, strict=True)
        gradients = None
        if self.gradients is not None and other.gradients is not None:
            gradients = self.gradients + other.gradients
        return Moments(self.rows + other.rows, tuple(a + b for a, b in tiles), gradients)

    @property
    def mean_squares(self) -> npt.NDArray[np.float32]:
        """``[in]``, of each column's input: how much an error in that column matters."""
        diagonal = np.concatenate([tile.diagonal() for tile in self.tiles])
        return (diagonal / self.rows).astype(np.float32)


@dataclass(frozen=True)
class ActivationStatistics:
    """What calibration saw of one projection.

    Attributes:
        input: Values that were multiplied with the matrix.
        output: Values that came out, with the bias where one is added.
        moments: Of the input, by columns of the matrix; None where the model does not multiply
            rows with ``[out, in]``, but something less plain.
    """

    input: Distribution
    output: Distribution
    moments: Moments | None = None

    def __add__(self, other: ActivationStatistics) -> ActivationStatistics:
        """Both together."""
        both = self.moments and other.moments and self.moments + other.moments
        return ActivationStatistics(self.input + other.input, self.output + other.output, both)


@dataclass(frozen=True)
class ActivationScale:
    """How integers stand for the values of one tensor: ``(integer - zero_point) * scale``.

    Attributes:
        scale: The step between two integers.
        zero_point: The integer that stands for 0: in [-128, 127] at 8 bits, 0 at 16, as TFLite's
            specification asks: https://ai.google.dev/edge/litert/models/quantization_spec
        bits: 8 or 16.
    """

    scale: float
    zero_point: int
    bits: int = 8

    @classmethod
    def spanning(cls, low: float, high: float) -> ActivationScale:
        """Return the finest of 8 bits from ``low`` to ``high``, with 0 in between."""
        levels = _LEVELS[8]
        low, high = min(low, 0.0), max(high, 0.0)
        scale = _step(high - low, levels[1] - levels[0])
        zero_point = round(levels[0] - low / scale)
        return cls(scale, int(np.clip(zero_point, *levels)))

    @classmethod
    def symmetric(cls, magnitude: float) -> ActivationScale:
        """Return the finest of 16 bits from ``-magnitude`` to ``magnitude``."""
        return cls(_step(magnitude, _LEVELS[16][1]), 0, 16)

    def problem(self) -> str | None:
        """Say why no runtime could use it, if so."""
        if isinstance(self.bits, bool) or self.bits not in _LEVELS:
            return f"8 or 16 bits, not {self.bits!r}"
        if not isinstance(self.scale, float) or not 0 < self.scale < np.inf:
            return f"a positive, finite scale, not {self.scale!r}"
        if isinstance(self.zero_point, bool) or not isinstance(self.zero_point, int):
            return f"a whole zero point, not {self.zero_point!r}"
        if self.bits == 16 and self.zero_point != 0:
            return f"the zero point 0, as it has 16 bits, not {self.zero_point}"
        if not _LEVELS[8][0] <= self.zero_point <= _LEVELS[8][1]:
            return f"a zero point within {list(_LEVELS[8])}, not {self.zero_point}"
        return None


def _step(width: float, count: int) -> float:
    """A float32; 1 for the width of zeros, as the runtime refuses subnormal scales."""
    step = float(np.float32(width / count))
    return step if step >= np.finfo(np.float32).tiny else 1.0


def problem_of_scales(**scales: object) -> str | None:
    """Say why no product could have these scales of what goes in and comes out, if so."""
    bits = set()
    for name, scale in scales.items():
        if not isinstance(scale, ActivationScale):
            return f"an ActivationScale as {name}, not {type(scale).__name__}"
        if problem := scale.problem():
            return f"as {name} {problem}"
        bits.add(scale.bits)
    return f"the same number of bits as {' and '.join(scales)}" if len(bits) > 1 else None
