"""The examples of docs/hooks.md, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/hooks.md"


def example(hook: str) -> str:
    """The module that implements a hook."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (module,) = (block for block in blocks if f"def {hook}(" in block)
    return str(module)
