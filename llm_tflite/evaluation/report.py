"""Everything that was found out about one file."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from .matrices import MatrixError
from .speed import Speed
from .tables import figure, markdown_table, text_table

_WORST = 8
_MATRIX_COLUMNS = ("matrix", "role", "shape", "bits", "error")


@dataclass(frozen=True)
class Report:
    """What one file costs, and what it says. ``evaluate`` defines the figures.

    Attributes:
        file: Its name.
        model: Its Keras class.
        layout: Its layout.
        quantizer: The strategy that stored its weights.
        parameters: How many numbers were trained.
        size_bytes: Of the whole file.
        threads: Threads of a run, as they were asked for; None for the default.
        speed: Load time, tokens per second and peak memory.
        texts: How many texts were read.
        window: Tokens that were read at once.
        tokens: How many of their tokens were predicted.
        perplexity: The file's, on these texts.
        reference: What the file was compared with; this and all that follow are None or empty
            without one.
        reference_perplexity: The float model's.
        kl_divergence: Mean of KL(float model || file), in nats per token.
        top1_agreement: Share of places where both find the same token most probable.
        greedy_limit: Tokens after which greedy answers were not followed any further.
        greedy_prefixes: For each continued text, greedy tokens until both part; empty too for a
            layout that writes none.
        matrices: What quantization took from each, the worst first.
    """

    file: str
    model: str
    layout: str
    quantizer: str
    parameters: int
    size_bytes: int
    threads: int | None
    speed: Speed
    texts: int
    window: int
    tokens: int
    perplexity: float
    reference: str | None
    reference_perplexity: float | None
    kl_divergence: float | None
    top1_agreement: float | None
    greedy_limit: int
    greedy_prefixes: tuple[int, ...]
    matrices: tuple[MatrixError, ...]

    @property
    def bytes_per_parameter(self) -> float:
        """The size of the whole file for each parameter."""
        return self.size_bytes / max(1, self.parameters)

    @property
    def greedy_prefix_mean(self) -> float | None:
        """How many greedy tokens are the float model's before both part, on average."""
        prefixes = self.greedy_prefixes
        return sum(prefixes) / len(prefixes) if prefixes else None

    @property
    def greedy_prefix_least(self) -> int | None:
        """The same for the text where they part first."""
        return min(self.greedy_prefixes, default=None)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in the types of JSON."""
        derived = ("bytes_per_parameter", "greedy_prefix_mean", "greedy_prefix_least")
        return dataclasses.asdict(self) | {name: getattr(self, name) for name in derived}

    def to_json(self) -> str:
        """Return everything as one JSON document."""
        return json.dumps(self.to_dict(), indent=2)

    def to_markdown(self) -> str:
        """Return the figures as a table, and the matrices that lost most as another."""
        page = markdown_table(("figure", "value"), self._figures(), numbers=("value",))
        if rows := self._worst_matrices():
            page += "\n" + markdown_table(_MATRIX_COLUMNS, rows, numbers=("bits", "error"))
        return page

    def _repr_markdown_(self) -> str:
        return self.to_markdown()

    def __str__(self) -> str:
        """Return the same page for the terminal."""
        page = text_table((self.file, ""), self._figures())
        if rows := self._worst_matrices():
            page += "\n" + text_table(_MATRIX_COLUMNS, rows)
        return page

    def _figures(self) -> list[tuple[str, str]]:
        speed = self.speed
        figures = [
            ("quantizer", self.quantizer),
            ("size", f"{self.size_bytes:,} bytes"),
            ("bytes per parameter", f"{self.bytes_per_parameter:.3f}"),
            ("load time", f"{speed.load_s:.2f} s"),
            ("prefill", f"{speed.prefill_tokens_per_s:.0f} tokens/s"),
            ("decode", f"{figure(speed.decode_tokens_per_s, '.1f')} tokens/s"),
            ("peak memory", f"{figure(speed.peak_memory_bytes, '.0f', unit=1e6)} MB"),
            ("before the file is opened", f"{figure(speed.idle_memory_bytes, '.0f', unit=1e6)} MB"),
            ("predicted", f"{self.tokens:,} tokens of {self.texts:,} texts"),
            ("perplexity", f"{self.perplexity:.4f}"),
        ]
        if self.reference is None:
            return figures
        return [
            *figures,
            ("reference", self.reference),
            ("perplexity of the reference", figure(self.reference_perplexity, ".4f")),
            ("KL divergence", f"{figure(self.kl_divergence, '.3g')} nats/token"),
            ("top-1 agreement", figure(self.top1_agreement, ".2%")),
            (f"common greedy prefix of {self.greedy_limit}", prefix_text(self)),
        ]

    def _worst_matrices(self) -> list[tuple[str, ...]]:
        return [
            (m.name, m.role, " x ".join(map(str, m.shape)), str(m.bits), f"{m.error:.3%}")
            for m in self.matrices[:_WORST]
            if m.error
        ]


def prefix_text(report: Report) -> str:
    """The mean of the common greedy prefixes, and the least in brackets."""
    if report.greedy_prefix_mean is None:
        return "-"
    return f"{report.greedy_prefix_mean:.1f} ({report.greedy_prefix_least})"
