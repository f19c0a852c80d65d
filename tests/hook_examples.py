"""The examples of docs/hooks.md, as a reader would copy them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs/hooks.md"


def example(function: str) -> str:
    """The module that defines a function, such as the implementation of a hook."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (module,) = (block for block in blocks if f"def {function}(" in block)
    return str(module)


def registered(hook: str) -> Any:
    """What the example of a hook registers."""
    module: dict[str, Any] = {"__file__": __file__, "__name__": __name__}
    exec(compile(example(hook), "docs/hooks.md", "exec"), module)
    offers: list[Any] = []
    module[hook](offers.append)
    (offer,) = offers
    return offer
