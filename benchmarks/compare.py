"""Compare this library with LiteRT-LM, llama.cpp and OpenVINO GenAI on this machine.

Every measurement is a process of its own, and the engines take turns, so that a busy minute of the
machine does not fall on one of them alone.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict

from .arguments import ROOT, add_file_options
from .cases import Case, Contender, all_cases
from .measurement import Measurement, Workload
from .report import as_json, as_markdown


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    options.files = options.files.resolve()  # children run in the root of the source tree
    workload = Workload(
        prompt_tokens=options.prompt,
        decode_tokens=options.decode,
        threads=options.threads,
        runs=options.runs,
    )
    if not options.reuse_files:
        subprocess.run(
            [sys.executable, "-m", "benchmarks.model_files", options.files], check=True, cwd=ROOT
        )
    comparison = _Comparison(workload, options.competitors)
    for case in all_cases(options.files):
        if options.only in case.name:
            comparison.measure(case, options.rounds)
    report = as_json(comparison.results, workload, comparison.versions)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "benchmarks.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.output / "benchmarks.md").write_text(as_markdown(report))
    print(as_markdown(report))


class _Comparison:
    """Measures cases and keeps what came out."""

    def __init__(self, workload: Workload, competitors: str) -> None:
        self.results: dict[str, dict[str, list[Measurement]]] = {}
        self.versions: dict[str, str] = {}
        self._workload = workload
        self._competitors = competitors

    def measure(self, case: Case, rounds: int) -> None:
        results = {contender.name: list[Measurement]() for contender in case.contenders}
        for index in range(rounds):
            for contender in case.contenders:
                print(f"{case.name}, {index + 1} of {rounds}: {contender.name}", file=sys.stderr)
                results[contender.name].append(self._in_child(contender))
        self.results[case.name] = results

    def _in_child(self, contender: Contender) -> Measurement:
        request = {
            "module": contender.module,
            "path": str(contender.path),
            "workload": asdict(self._workload),
            "options": dict(contender.options),
        }
        python = sys.executable if contender.ours else self._competitors
        child = subprocess.run(
            [python, "-m", "benchmarks.engines", json.dumps(request)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if child.returncode:
            raise SystemExit(f"{contender.name} failed:\n{child.stderr[-4000:]}")
        result = json.loads(child.stdout.splitlines()[-1])
        self.versions.update(result["versions"])
        return Measurement(**result["measurement"])


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    default = Workload()
    parser.add_argument("--rounds", type=int, default=3, help="processes per engine and case")
    parser.add_argument("--runs", type=int, default=default.runs, help="prompts per process")
    parser.add_argument("--threads", type=int, default=default.threads)
    parser.add_argument("--prompt", type=int, default=default.prompt_tokens, help="tokens")
    parser.add_argument("--decode", type=int, default=default.decode_tokens, help="tokens")
    parser.add_argument(
        "--competitors",
        default=sys.executable,
        help="the Python that has benchmarks/requirements.txt installed; this one by default",
    )
    parser.add_argument("--only", default="", help="cases whose name contains this text")
    add_file_options(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
