"""Documentation that cannot drift: hooks are described, examples run, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hook_examples import example

from llm_tflite import hookspecs
from llm_tflite.errors import PluginError
from llm_tflite.op_registrar import check_registrar, load_registerers
from llm_tflite.quantization import Weight, check_strategy, quantize

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])


@pytest.mark.parametrize("hook", hookspecs.hook_names())
def test_every_hook_is_documented(hook: str) -> None:
    assert f"## {hook}(" in (ROOT / "docs/hooks.md").read_text()


def registered(hook: str) -> Any:
    """What the example of a hook registers."""
    module: dict[str, Any] = {"__file__": __file__}
    exec(compile(example(hook), "docs/hooks.md", "exec"), module)
    offers: list[Any] = []
    module[hook](offers.append)
    (offer,) = offers
    return offer


def test_the_example_of_a_strategy_works() -> None:
    strategy = registered("llm_tflite_register_quantizers")
    values = np.random.default_rng(0).normal(size=(8, 64)).astype(np.float32)
    tensor = quantize(check_strategy(strategy), Weight("w", "projection", (8, 64)), values)
    assert int(tensor.values.max()) == 31


def test_the_example_of_a_registrar_is_one_and_says_when_its_library_is_missing() -> None:
    registrar = check_registrar(registered("llm_tflite_register_custom_ops"))
    assert list(registrar.operations) == ["TimesTwo"]
    with pytest.raises(PluginError, match=r"'times_two' failed .*libtimes_two\.so"):
        load_registerers(registrar)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
