"""How fast a file is and how much memory it takes, in a process that does nothing else."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import RuntimeFailureError
from ..progress import Progress
from ..progress import Report as Reporter
from ..signature_names import SERVING

if TYPE_CHECKING:
    from ..interpreter import Interpreter

_PROMPT_TOKENS = 128
_NEW_TOKENS = 64
_MESSAGE_LENGTH = 400
_ROUNDS = 3


@dataclass(frozen=True)
class Speed:
    """Measured in a process of its own, on random prompts; medians over the runs.

    Attributes:
        prompt_tokens: Of each prompt.
        new_tokens: Written after it.
        load_s: Seconds from the path to an interpreter that takes prompts, digests included.
        prefill_tokens_per_s: Prompt tokens by the time until the first new token was known; for the
            layout ``forward``, tokens of a whole text by the time of its one call.
        decode_tokens_per_s: Further tokens by their time; None for a file that writes none.
        peak_memory_bytes: The process' largest resident size, Python and the runtime included; None
            where the system does not tell.
        idle_memory_bytes: What it was before the file was opened.
    """

    prompt_tokens: int
    new_tokens: int
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float | None
    peak_memory_bytes: int | None
    idle_memory_bytes: int | None


def measure_speed(path: Path, *, threads: int | None, runs: int, seed: int) -> Speed:
    """Measure a file.

    Args:
        path: An artifact.
        threads: As for ``Interpreter``.
        runs: Prompts that count, after one that does not.
        seed: Of the prompts' tokens.

    Raises:
        RuntimeFailureError: The process ended without a result.
    """
    request = {"path": str(path), "threads": threads, "runs": runs, "seed": seed}
    # The child finds the package where this process did, wherever it was started.
    paths = [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")]
    child = subprocess.run(
        [sys.executable, "-m", __name__, json.dumps(request)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeFailureError(
            f"measuring {path.name} failed: the process ended with {child.returncode}: "
            f"{last[:_MESSAGE_LENGTH]}"
        )
    return Speed(**json.loads(child.stdout.splitlines()[-1]))


def measure_in_turns(
    paths: Sequence[Path], *, threads: int | None, runs: int, seed: int, report: Reporter
) -> list[Speed | RuntimeFailureError]:
    """Measure several files one after the other, in three rounds: medians, or what went wrong.

    What slows a machine down for a while then slows all of them.
    """
    rounds: list[list[Speed]] = [[] for _ in paths]
    errors: dict[int, RuntimeFailureError] = {}
    turns = [index for _ in range(_ROUNDS) for index in range(len(paths))]
    for done, index in enumerate(turns):
        report(Progress("measuring speed", done, len(turns)))
        if index in errors:
            continue
        try:
            speed = measure_speed(paths[index], threads=threads, runs=runs, seed=seed)
            rounds[index].append(speed)
        except RuntimeFailureError as error:
            errors[index] = error
    report(Progress("measuring speed", len(turns), len(turns)))
    return [errors.get(index) or _median(found) for index, found in enumerate(rounds)]


def _median(speeds: Sequence[Speed]) -> Speed:
    facts: dict[str, Any] = {}
    for name in asdict(speeds[0]):
        values = [getattr(speed, name) for speed in speeds]
        facts[name] = None if None in values else statistics.median(values)
    return Speed(**facts)


def _measured(path: str, *, threads: int | None, runs: int, seed: int) -> Speed:
    from ..interpreter import Interpreter

    idle = _peak_memory_bytes()
    began = perf_counter()
    with Interpreter(path, threads=threads) as interpreter:
        load_s = perf_counter() - began
        facts = interpreter.manifest.model
        writes = interpreter.manifest.layout != "forward"
        prompt_tokens = facts.context_length
        new_tokens = 0
        if writes:
            prompt_tokens = max(1, min(_PROMPT_TOKENS, facts.context_length // 2))
            new_tokens = min(_NEW_TOKENS, facts.context_length - prompt_tokens)
        random = np.random.default_rng(seed)
        measured: list[tuple[float, float]] = []
        for _ in range(runs + 1):
            prompt = random.integers(0, facts.vocabulary_size, prompt_tokens).tolist()
            if writes:
                completion = interpreter.generate(
                    prompt,
                    max_new_tokens=new_tokens,
                    stop_token_ids=(),
                    context_window=facts.context_length,
                )
                timings = completion.timings
                measured.append((timings.prefill_tokens_per_s, timings.decode_tokens_per_s))
            else:
                measured.append((prompt_tokens / _forward_s(interpreter, prompt), 0.0))
    prefill, decode = (statistics.median(speeds) for speeds in zip(*measured[1:], strict=True))
    return Speed(
        prompt_tokens=prompt_tokens,
        new_tokens=new_tokens,
        load_s=load_s,
        prefill_tokens_per_s=prefill,
        decode_tokens_per_s=decode if writes else None,
        peak_memory_bytes=_peak_memory_bytes(),
        idle_memory_bytes=idle,
    )


def _forward_s(interpreter: Interpreter, prompt: list[int]) -> float:
    ids = np.array([prompt], np.int32)
    began = perf_counter()
    interpreter.run(SERVING, token_ids=ids, padding_mask=np.ones_like(ids))
    return perf_counter() - began


def _peak_memory_bytes() -> int | None:
    """The largest resident size that this process has had; None where the system does not tell."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss would start from the size of the process that started this one
        lines = status.read_text().splitlines()
        (line,) = (row for row in lines if row.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


if __name__ == "__main__":
    print(json.dumps(asdict(_measured(**json.loads(sys.argv[1])))))
