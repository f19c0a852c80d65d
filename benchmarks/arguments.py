"""Options that benchmarks have in common."""

from __future__ import annotations

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def add_file_options(parser: argparse.ArgumentParser) -> None:
    """Add where converted models are kept, and where figures go."""
    parser.add_argument("--files", type=Path, default=ROOT / ".cache" / "benchmarks")
    parser.add_argument(
        "--reuse-files", action="store_true", help="do not convert again what a run left there"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
