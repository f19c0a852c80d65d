"""The examples of docs/hooks.md, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parent.parent / "docs/hooks.md"


def example(function: str) -> str:
    """The module that defines a function, such as the implementation of a hook."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (module,) = (block for block in blocks if f"def {function}(" in block)
    return str(module)
