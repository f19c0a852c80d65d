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
    for report, size, perplexity in zip(reports, sizes, perplexities, strict=True):
        axes.annotate(
            report.quantizer,
            (size, perplexity),
            xytext=(6, 6),
            textcoords="offset points",
            fontsize="small",
        )
    if (expected := reports[0].reference_perplexity) is not None:
        axes.axhline(expected, linestyle="--", linewidth=1, color="grey", zorder=1)
    axes.set_xlabel("size of the file, MB")
    axes.set_ylabel("perplexity (dashed: the float model)")
    axes.margins(0.12)
    figure.colorbar(points, ax=axes, label="decode, tokens/s")
    return figure
