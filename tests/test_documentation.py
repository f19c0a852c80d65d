"""Documentation that cannot drift: hooks are described, examples run, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from llm_tflite import hookspecs
from llm_tflite.quantization import Weight, check_strategy, quantize

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("hook", hookspecs.hook_names())
def test_every_hook_is_documented(hook: str) -> None:
    assert f"## {hook}(" in (ROOT / "docs/hooks.md").read_text()


def test_the_example_of_a_strategy_works() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs/hooks.md").read_text(), re.DOTALL)
    module: dict[str, object] = {}
    exec(compile(code, "docs/hooks.md", "exec"), module)
    registered: list[object] = []
    module["llm_tflite_register_quantizers"](registered.append)  # type: ignore[operator]
    (strategy,) = registered
    values = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    tensor = quantize(check_strategy(strategy), Weight("w", "projection", (8, 64)), values)
    assert int(tensor.values.max()) == 31


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
