"""Prove every family of KerasHub models: ``python -m benchmarks.families``.

Each family is a process of its own, so that a crash is a row of the table and hides no other. The
figures go to ``benchmarks/results/families.json``, the page to ``docs/families.md``; families that
are left out keep their rows.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llm_tflite.demo.families import FAMILIES

from .families_page import as_page
from .report import machine

_ROOT = Path(__file__).resolve().parents[1]
_PAGE = _ROOT / "docs" / "families.md"
_TIMEOUT_S = 900


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    results = options.output / "families.json"
    options.output.mkdir(parents=True, exist_ok=True)
    rows = json.loads(results.read_text())["families"] if results.exists() else {}
    with ThreadPoolExecutor(options.processes) as pool:
        proofs = {name: pool.submit(_proof, name) for name in options.only}
        for name, proof in proofs.items():
            rows[name] = proof.result()
            print(name, rows[name].get("error", "done"), file=sys.stderr)
            ordered = {known: rows[known] for known in FAMILIES if known in rows}
            report = {"machine": machine(), "families": ordered}
            results.write_text(json.dumps(report, indent=2) + "\n")
            _PAGE.write_text(as_page(report), encoding="utf-8")


def _proof(name: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.family_proof", name, folder]
        try:
            child = subprocess.run(
                command, cwd=_ROOT, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return {"error": f"no result after {_TIMEOUT_S} s"}
    if child.returncode:
        last = (child.stderr.strip().splitlines() or ["no message"])[-1]
        return {"error": f"the process ended with {child.returncode}: {last}"}
    result: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return result


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.families", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    parser.add_argument("--processes", type=int, default=2, help="families at the same time")
    parser.add_argument("--output", type=Path, default=_ROOT / "benchmarks" / "results")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
