"""The outcome of a comparison, for programs and for people."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .measurement import Measurement, Workload

Results = Mapping[str, Mapping[str, Sequence[Measurement]]]  # case -> contender -> rounds


def as_json(results: Results, workload: Workload, versions: Mapping[str, str]) -> dict[str, Any]:
    """Everything that was measured, with medians over the rounds and ratios ours / theirs."""
    return {
        "machine": machine(),
        "versions": dict(versions),
        "workload": asdict(workload),
        "cases": {case: _case(contenders) for case, contenders in results.items()},
    }


def as_markdown(report: Mapping[str, Any]) -> str:
    """The medians of a report as one table per case."""
    workload = report["workload"]
    versions = ", ".join(f"{name} {version}" for name, version in report["versions"].items())
    lines = [
        f"{report['machine']['processor']}, {workload['threads']} threads; prompt of "
        f"{workload['prompt_tokens']} tokens, {workload['decode_tokens']} decoded, context "
        f"{workload['context_length']}. {versions}.",
        "",
        "In brackets: ours divided by theirs.",
    ]
    for case, contenders in report["cases"].items():
        rounds = len(next(iter(contenders.values()))["rounds"])
        lines += [
            "",
            f"## {case} (medians of {rounds} rounds)",
            "",
            "| engine | prefill tokens/s | decode tokens/s | load s | peak memory MB |",
            "|---|---:|---:|---:|---:|",
        ]
        for name, contender in contenders.items():
            median, ratio = contender["median"], contender["ours_over_theirs"]
            lines.append(
                f"| {name} "
                f"| {median['prefill_tokens_per_s']:.0f} ({ratio['prefill_tokens_per_s']:.2f}) "
                f"| {median['decode_tokens_per_s']:.1f} ({ratio['decode_tokens_per_s']:.2f}) "
                f"| {median['load_s']:.2f} | {median['peak_memory_bytes'] / 1e6:.0f} |"
            )
    return "\n".join(lines) + "\n"


def _case(contenders: Mapping[str, Sequence[Measurement]]) -> dict[str, Any]:
    medians = {name: asdict(Measurement.median(rounds)) for name, rounds in contenders.items()}
    ours = next(iter(medians.values()))
    return {
        name: {
            "median": medians[name],
            "ours_over_theirs": {key: ours[key] / medians[name][key] for key in ours},
            "rounds": [asdict(measurement) for measurement in rounds],
        }
        for name, rounds in contenders.items()
    }


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    processor = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        processor = names[0].partition(":")[2].strip() if names else processor
    return {
        "processor": processor,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
    }
