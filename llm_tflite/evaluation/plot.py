"""One picture of what quantizers give and take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import MissingDependencyError
from .report import Report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE_INCHES = (8, 5)
_DOTS_PER_INCH = 120
# About, in points: the axes inside of the figure, and a letter of a label.
_AXES_POINTS = (440, 320)
_LETTER_POINTS = (5.5, 10)
_LABEL_OFFSETS = [(8, 8), (8, -8), (-8, 8), (-8, -8), (8, 20), (8, -20)]


def check_plots() -> None:
    """Refuse to draw where nothing can.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as e:
        raise MissingDependencyError(
            "plots need matplotlib: pip install 'llm-tflite[evaluate]'"
        ) from e


def draw(reports: Sequence[Report]) -> Figure:
    """Draw perplexity against size, with the speed of decoding as colour.

    Args:
        reports: At least one, all of one model on the same texts.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    check_plots()
    from matplotlib.figure import Figure

    # Not through pyplot, which would keep the figure and choose a window system for it.
    figure = Figure(figsize=_SIZE_INCHES, dpi=_DOTS_PER_INCH, layout="constrained")
    axes = figure.add_subplot()
    sizes = [report.size_bytes / 1e6 for report in reports]
    perplexities = [report.perplexity for report in reports]
    speeds = [report.speed.decode_tokens_per_s or 0.0 for report in reports]
    points = axes.scatter(sizes, perplexities, c=speeds, s=80, cmap="viridis", zorder=2)
    axes.margins(0.12)
    names = [report.quantizer for report in reports]
    for name, size, perplexity, (x, y) in zip(
        names, sizes, perplexities, _label_offsets(names, sizes, perplexities), strict=True
    ):
        axes.annotate(
            name,
            (size, perplexity),
            xytext=(x, y),
            textcoords="offset points",
            fontsize="small",
            horizontalalignment="left" if x > 0 else "right",
            verticalalignment="center",
        )
    if (expected := reports[0].reference_perplexity) is not None:
        axes.axhline(expected, linestyle="--", linewidth=1, color="grey", zorder=1)
    axes.set_xlabel("size of the file, MB")
    axes.set_ylabel("perplexity (dashed: the float model)")
    figure.colorbar(points, ax=axes, label="decode, tokens/s")
    return figure


def _label_offsets(
    names: Sequence[str], sizes: Sequence[float], perplexities: Sequence[float]
) -> list[tuple[int, int]]:
    """For each point, where its label covers no earlier one, as far as a few places allow."""
    places = [
        [points * (value - min(values)) / ((max(values) - min(values)) or 1) for value in values]
        for values, points in zip((sizes, perplexities), _AXES_POINTS, strict=True)
    ]
    taken: list[tuple[float, float, float]] = []
    chosen = []
    for name, x, y in zip(names, *places, strict=True):
        width, height = len(name) * _LETTER_POINTS[0], _LETTER_POINTS[1]
        boxes = [(x + dx - (width if dx < 0 else 0), y + dy, width) for dx, dy in _LABEL_OFFSETS]
        free = [
            all(
                abs(top - other_top) >= height or left >= other + other_wide or left + wide <= other
                for other, other_top, other_wide in taken
            )
            for left, top, wide in boxes
        ]
        best = free.index(True) if True in free else 0
        taken.append(boxes[best])
        chosen.append(_LABEL_OFFSETS[best])
    return chosen
