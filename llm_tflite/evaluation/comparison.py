"""Several quantizers of one model, side by side."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InvalidOptionError, MissingDependencyError
from ..files import PathLike, atomic_file, local_path
from .report import Report, prefix_text
from .tables import figure, html_table, markdown_table, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLUMNS = (
    "quantizer",
    "MB",
    "bytes/parameter",
    "perplexity",
    "KL, nats/token",
    "top-1",
    "greedy prefix",
    "prefill tokens/s",
    "decode tokens/s",
    "load s",
    "peak MB",
    "worst matrix",
)


@dataclass(frozen=True)
class Outcome:
    """What became of one quantizer: a report, or the error that ended it.

    Attributes:
        quantizer: Its name.
        report: Everything that was found out; None if it failed.
        error: The error's type and message; None if it did not.
    """

    quantizer: str
    report: Report | None = None
    error: str | None = None


@dataclass(frozen=True)
class Comparison:
    """A table and a plot of several quantizers; a notebook shows both.

    Attributes:
        model: The Keras class of the model.
        outcomes: One for each quantizer, in the order in which they were given.
    """

    model: str
    outcomes: tuple[Outcome, ...]

    @property
    def reports(self) -> tuple[Report, ...]:
        """Those of the quantizers that did not fail."""
        return tuple(outcome.report for outcome in self.outcomes if outcome.report)

    @property
    def errors(self) -> dict[str, str]:
        """What ended the others, by name."""
        return {outcome.quantizer: outcome.error for outcome in self.outcomes if outcome.error}

    def to_dict(self) -> dict[str, Any]:
        """Return everything in the types of JSON."""
        return {
            "model": self.model,
            "quantizers": [
                {
                    "quantizer": outcome.quantizer,
                    "report": outcome.report.to_dict() if outcome.report else None,
                    "error": outcome.error,
                }
                for outcome in self.outcomes
            ],
        }

    def to_json(self) -> str:
        """Return everything as one JSON document."""
        return json.dumps(self.to_dict(), indent=2)

    def to_markdown(self) -> str:
        """Return the table, with what it is about above it."""
        table = markdown_table(_COLUMNS, self._rows(), numbers=_COLUMNS[1:-1])
        return f"{self._caption()}\n\n{table}"

    def plot(self, path: PathLike | None = None) -> Figure:
        """Draw perplexity against size, with the speed of decoding as colour.

        Args:
            path: A ``.png`` file to write, instead of one that may be there.

        Returns:
            A figure of matplotlib.

        Raises:
            InvalidOptionError: ``path`` has another ending, or every quantizer failed.
            MissingDependencyError: matplotlib is not installed.
        """
        if path is not None and local_path(path).suffix.lower() != ".png":
            raise InvalidOptionError(f"expected a path that ends in .png; got {path}")
        if not self.reports:
            raise InvalidOptionError(
                f"every quantizer failed, so there is nothing to plot: {self.errors}"
            )
        from .plot import draw

        drawn = draw(self.reports)
        if path is not None:
            with atomic_file(path, overwrite=True) as stream:
                drawn.savefig(stream, format="png")
        return drawn

    def __str__(self) -> str:
        """Return the table for the terminal."""
        return f"{self._caption()}\n\n{text_table(_COLUMNS, self._rows())}"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def _repr_html_(self) -> str:
        page = f"<p>{self._caption()}</p>{html_table(_COLUMNS, self._rows())}"
        try:
            drawn = self.plot()
        except (InvalidOptionError, MissingDependencyError):
            return page  # a table without a plot is better than none
        image = io.BytesIO()
        drawn.savefig(image, format="png")
        encoded = base64.b64encode(image.getvalue()).decode("ascii")
        return f'{page}<img alt="perplexity against size" src="data:image/png;base64,{encoded}">'

    def _caption(self) -> str:
        if not self.reports:
            return self.model
        first = self.reports[0]
        return (
            f"{self.model}, {first.parameters:,} parameters; {first.tokens:,} tokens of "
            f"{first.texts:,} texts, on which the float model has a perplexity of "
            f"{figure(first.reference_perplexity, '.4f')}; greedy prefixes of at most "
            f"{first.greedy_limit} tokens, mean (least)."
        )

    def _rows(self) -> list[tuple[str, ...]]:
        return [_row(outcome) for outcome in self.outcomes]


def _row(outcome: Outcome) -> tuple[str, ...]:
    report = outcome.report
    if report is None:
        return (outcome.quantizer, *["-"] * (len(_COLUMNS) - 2), outcome.error or "")
    speed, worst = report.speed, report.matrices[0]
    worst_text = f"{worst.name}: {worst.error:.2%}" if worst.error else "-"
    return (
        outcome.quantizer,
        f"{report.size_bytes / 1e6:.2f}",
        f"{report.bytes_per_parameter:.3f}",
        f"{report.perplexity:.4f}",
        figure(report.kl_divergence, ".3g"),
        figure(report.top1_agreement, ".2%"),
        prefix_text(report),
        f"{speed.prefill_tokens_per_s:.0f}",
        figure(speed.decode_tokens_per_s, ".0f"),
        f"{speed.load_s:.2f}",
        figure(speed.peak_memory_bytes, ".0f", unit=1e6),
        worst_text,
    )
