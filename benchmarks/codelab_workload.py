"""What the codelab's file and ours are asked, and what is noted down."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

# The codelab's prompt, and its tokens of prompt and answer together.
PROMPT = "I'm enjoying a"
MAX_LENGTH = 100


@dataclass(frozen=True)
class TextMeasurement:
    """One process.

    Attributes:
        load_s: From the imported runtime to an interpreter with memory for its tensors.
        first_s: The first text, which also prepares the kernels' copies of the weights.
        text_s: The median of the texts after it.
        peak_memory_bytes: Of the whole process, its libraries included.
    """

    load_s: float
    first_s: float
    text_s: float
    peak_memory_bytes: int

    @staticmethod
    def median(measurements: Iterable[TextMeasurement]) -> TextMeasurement:
        rows = [asdict(measurement) for measurement in measurements]
        return TextMeasurement(
            **{
                field.name: statistics.median(row[field.name] for row in rows)
                for field in fields(TextMeasurement)
            }
        )
