"""What is asked of every engine, and what is noted down."""

from __future__ import annotations

import resource
import statistics
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path


@dataclass(frozen=True)
class Workload:
    """One prompt and its greedy continuation, several times over with a new random prompt each.

    The first run warms the engine up and is not counted.
    """

    prompt_tokens: int = 128
    decode_tokens: int = 64
    context_length: int = 1024
    threads: int = 2
    runs: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Run:
    """One prompt.

    Attributes:
        prefill_tokens_per_s: Prompt tokens by the time until the first new token was known.
        decode_tokens_per_s: Further tokens by the time that they took.
    """

    prefill_tokens_per_s: float
    decode_tokens_per_s: float


@dataclass(frozen=True)
class Measurement:
    """One process: ``load_s`` is from the imported library to an engine that takes a prompt."""

    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    peak_memory_bytes: int

    @staticmethod
    def of(load_s: float, runs: Iterable[Run]) -> Measurement:
        runs = list(runs)
        return Measurement(
            load_s=load_s,
            prefill_tokens_per_s=statistics.median(run.prefill_tokens_per_s for run in runs),
            decode_tokens_per_s=statistics.median(run.decode_tokens_per_s for run in runs),
            peak_memory_bytes=peak_memory_bytes(),
        )

    @staticmethod
    def median(measurements: Iterable[Measurement]) -> Measurement:
        rows = [asdict(measurement) for measurement in measurements]
        return Measurement(
            **{f.name: statistics.median(row[f.name] for row in rows) for f in fields(Measurement)}
        )


def peak_memory_bytes() -> int:
    """The largest resident size that this process has had."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would start from the size of the process that started this one
        (line,) = (row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
