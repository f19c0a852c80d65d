"""What the command line prints."""

from __future__ import annotations

import json
from typing import Any, TextIO


def print_json(values: Any, out: TextIO) -> None:
    """Print one JSON document."""
    print(json.dumps(values, indent=2), file=out)


def print_safe(text: str, out: TextIO) -> None:
    """Print text that may quote a hostile file, without what would steer the terminal."""
    safe = (c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    print("".join(safe), file=out)
