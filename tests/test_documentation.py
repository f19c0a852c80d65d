"""Documentation that cannot drift: hooks are described, examples run, links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hook_examples import example

from llm_tflite import hookspecs
from llm_tflite.errors import FilteredPromptError, PluginError
from llm_tflite.op_registrar import check_registrar, load_registerers
from llm_tflite.quantization import Weight, check_strategy, plan, quantize, with_parameter
from llm_tflite.text_filter import FilterChain, check_prompt, check_text_filter

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


def test_the_example_of_a_plan_chooses_as_many_as_its_parameter_says() -> None:
    page = (ROOT / "docs/hooks.md").read_text()
    (source,) = (b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "def plan(" in b)
    module: dict[str, Any] = {"__name__": __name__}
    exec(compile(source, "docs/hooks.md", "exec"), module)
    strategy = with_parameter(check_strategy(module["LargestInHalves"]()), "2")
    matrices = [
        (Weight(f"w{rows}", "projection", (rows, 4)), np.ones((rows, 4), np.float32))
        for rows in (1, 3, 2)
    ]
    planned = plan(strategy, matrices)
    assert strategy.name == "largest:2"
    assert [quantize(planned, *each).bits for each in matrices] == [32, 16, 16]


def test_the_example_of_a_registrar_is_one_and_says_when_its_library_is_missing() -> None:
    registrar = check_registrar(registered("llm_tflite_register_custom_ops"))
    assert list(registrar.operations) == ["TimesTwo"]
    with pytest.raises(PluginError, match=r"'times_two' failed .*libtimes_two\.so"):
        load_registerers(registrar)


def test_the_example_of_a_text_filter_holds_back_numbers_that_grow() -> None:
    text_filter = check_text_filter(registered("llm_tflite_register_text_filters"))
    chain = FilterChain([text_filter], "to 12")
    passed = [chain.push(text) for text in ("34", " and ", "123456", "78901", "2345", " now")]
    assert passed == ["", "34 and ", "", "", "", ""]
    assert (chain.finish(), chain.refused_by) == ("", "no_long_numbers")
    with pytest.raises(FilteredPromptError, match=r"lets no long number through, .* 3 to 15;"):
        check_prompt([text_filter], "to 1234567890123456")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_that_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target
