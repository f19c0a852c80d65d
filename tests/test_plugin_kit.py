"""The claims of ``llm_tflite.testing``: our strategies keep them, and who breaks one is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import count
from typing import Any
from unittest import SkipTest

import numpy as np
import pytest
from hook_examples import example

from llm_tflite.errors import ConformanceError, InvalidOptionError, QuantizationError
from llm_tflite.plugins import load_plugins, plugins
from llm_tflite.quantization import QuantizedTensor
from llm_tflite.quantizers.full_integer import FullInteger
from llm_tflite.quantizers.full_integer_int16 import FullIntegerInt16
from llm_tflite.quantizers.int8 import Int8
from llm_tflite.testing import QuantizerConformance, check_quantizer, tiny_model

INT8 = Int8("int8", activations="dynamic")


# One scale for a row of heavy tails is coarser than one for a block of them.
BOUNDS = {"int4_channel": 0.2}
# These are tested in every layout, and recipes of ai-edge-quantizer in test_aeq.py.
ELSEWHERE = ("int4", "full_integer", "aeq")
BUILT_IN = plugins()[0].provides["quantizers"]


@pytest.mark.parametrize(
    "name", [*(name for name in BUILT_IN if name.split(":")[0] not in ELSEWHERE), "mixed:0.9"]
)
def test_a_built_in_strategy_conforms(name: str) -> None:
    strategy = load_plugins().quantizer(name)
    check_quantizer(strategy, layouts=["forward"], relative_error=BOUNDS.get(name))


class TestFourBits(QuantizerConformance):
    strategy = load_plugins().quantizer("int4")


class TestCalibratedStrategy(QuantizerConformance):
    # Random weights have no taste: what is chosen is not what these claims ask.
    strategy = FullInteger(least_agreement=0.5)


class TestSixteenBitsOfActivations(QuantizerConformance):
    strategy = FullIntegerInt16(least_agreement=0.5)


def test_the_example_of_the_page_conforms_as_the_page_says() -> None:
    page: dict[str, Any] = {"__name__": __name__}
    exec(example("llm_tflite_register_quantizers"), page)
    exec(example("test_int6_conforms"), page)
    page["test_int6_conforms"]()
    page["TestInt6"]().test_what_it_loses_is_within_bounds()


def test_fewer_levels_than_the_bits_could_hold_must_be_said() -> None:
    page: dict[str, Any] = {"__name__": __name__}
    exec(example("llm_tflite_register_quantizers"), page)
    with pytest.raises(ConformanceError, match=r"'int6' may lose 0\.02 of .* loses 0\.0"):
        check_quantizer(page["Symmetric"]("int6", largest=31))


@dataclass
class Spoilt:
    """``int8`` with one fault, in what it says of itself or in what it returns."""

    quantized: Callable[[np.ndarray, QuantizedTensor], Any] = lambda _, tensor: tensor
    described: Callable[[], Any] = INT8.describe
    lossless: bool = False
    name: str = "spoilt"

    def describe(self) -> Any:
        return self.described()

    def quantize(self, weight: Any, values: np.ndarray) -> Any:
        return self.quantized(values, INT8.quantize(weight, values))


def _changes_its_input(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    owner = values.base if values.base is not None else values
    owner[...] = 0
    return tensor


def _shifted(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    return replace(tensor, values=np.roll(tensor.values, 1, axis=1))


def _in_order_of_memory(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    return replace(tensor, note="C" if values.flags.c_contiguous else "F")


def _blocks_of_any_scale(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    if values.shape[1] % 32:
        return tensor
    blocks = values.reshape(len(values), -1, 32)
    scales = np.maximum(np.abs(blocks).max(axis=2) / np.float32(7), np.float32(1e-37))
    integers = np.rint(blocks / scales[..., None]).astype(np.int8).reshape(values.shape)
    return QuantizedTensor(integers, bits=4, scales=scales, block_size=32, activations="dynamic")


def _not_for_narrow_ones(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    return replace(tensor, values=tensor.values.reshape(-1, 32).reshape(values.shape))


def _ones_for_zeros(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
    return replace(tensor, values=np.where(values == 0, np.int8(1), tensor.values))


_numbers = count()
BROKEN: dict[str, tuple[Any, str]] = {
    "no strategy": (8, "the name of this int is None"),
    "a class": (Spoilt, "got the class Spoilt"),
    "not JSON": (Spoilt(described=lambda: {"x": {1, 2}}), r"failed on describe\(\)"),
    "another description each time": (
        Spoilt(described=lambda: {"x": next(_numbers)}),
        "describe itself always alike",
    ),
    "odd widths": (Spoilt(_not_for_narrow_ones), r"be able to store shape \(1, 1\) as projection"),
    "a bare array": (Spoilt(lambda _, tensor: tensor.values), "must return a QuantizedTensor"),
    "zeros": (Spoilt(_ones_for_zeros), "restore zeros as zeros for zeros only"),
    "order of memory": (Spoilt(_in_order_of_memory), "store the same matrix alike; .*: note"),
    "wrong places": (Spoilt(_shifted), "be further off than zeros|may lose 0.02 of normal values"),
    "lossless in name": (Spoilt(lossless=True), "may lose 1e-06 of normal values as projection"),
    "scales of blocks": (Spoilt(_blocks_of_any_scale), "that float16 and bfloat16 both hold"),
}


@pytest.mark.parametrize(("strategy", "complaint"), BROKEN.values(), ids=BROKEN.keys())
def test_a_strategy_that_breaks_a_claim_is_told_which(strategy: Any, complaint: str) -> None:
    with pytest.raises(ConformanceError, match=complaint) as caught:
        check_quantizer(strategy)
    assert isinstance(caught.value, AssertionError)


@dataclass
class Planner(Spoilt):
    """``int8`` that has seen nothing before ``plan()``, which may have a fault."""

    planned: Callable[[list[tuple[Any, np.ndarray]]], Any] = lambda _: Spoilt()

    def plan(self, matrices: Any) -> Any:
        return self.planned(list(matrices))

    def quantize(self, weight: Any, values: np.ndarray) -> Any:
        raise QuantizationError("call plan() first")


def _another_note(matrices: list[tuple[Any, np.ndarray]]) -> Any:
    note = str(next(_numbers))
    return Spoilt(lambda _, tensor: replace(tensor, note=note))


def _never_enough(matrices: list[tuple[Any, np.ndarray]]) -> Any:
    raise QuantizationError(f"{len(matrices)} are too few")


def _dies(matrices: list[tuple[Any, np.ndarray]]) -> Any:
    raise ZeroDivisionError


BROKEN_PLANS: dict[str, tuple[Any, str]] = {
    "another outcome each time": (_another_note, "must plan always alike; .* note differ"),
    "another name": (lambda _: Spoilt(name="other"), "must describe itself after plan"),
    "no name": (lambda _: Spoilt(name=""), "must plan for all matrices .* name .* is ''"),
    "another description": (lambda _: Spoilt(described=dict), "must describe itself after plan"),
    "another description each time": (
        lambda _: Spoilt(described=lambda: {**INT8.describe(), "at": next(_numbers)}),
        "must plan always alike, not as",
    ),
    "lossless all at once": (lambda _: Spoilt(lossless=True), "must not change .*lossless"),
    "never enough": (_never_enough, "must plan for all matrices of these claims; .* are too few"),
    "a fault": (_dies, "must plan for all matrices of these claims; .*ZeroDivisionError"),
    "nothing": (lambda _: None, "must plan for all matrices of these claims; .*NoneType"),
}


@pytest.mark.parametrize(("planned", "complaint"), BROKEN_PLANS.values(), ids=BROKEN_PLANS.keys())
def test_a_plan_that_breaks_a_claim_is_told(planned: Any, complaint: str) -> None:
    conformance = QuantizerConformance()
    conformance.strategy = Planner(planned=planned)
    with pytest.raises(ConformanceError, match=complaint):
        conformance.test_a_plan_is_always_alike_and_still_the_same_strategy()


def test_a_strategy_may_insist_on_its_plan_and_is_shown_each_matrix_once() -> None:
    seen: list[list[str]] = []

    def planned(matrices: list[tuple[Any, np.ndarray]]) -> Any:
        seen.append([weight.name for weight, _ in matrices])
        return Spoilt()

    check_quantizer(Planner(planned=planned), layouts=["forward"])
    assert all(len(set(names)) == len(names) for names in seen)
    assert "normal values as embedding" in seen[0]


def test_a_strategy_that_writes_into_the_model_is_told() -> None:
    conformance = QuantizerConformance()
    conformance.strategy = Spoilt(_changes_its_input)
    with pytest.raises(ConformanceError, match="must not change the matrix that it is given"):
        conformance.test_it_leaves_its_input_alone()


def test_a_strategy_that_fails_on_real_weights_only_is_told_by_layout() -> None:
    def fails(values: np.ndarray, tensor: QuantizedTensor) -> QuantizedTensor:
        if values.shape == (64, 88):  # as in the tiny model, and in no matrix of the kit
            raise ValueError("no room")
        return tensor

    with pytest.raises(ConformanceError, match=r"layout 'forward'.*ValueError: no room"):
        check_quantizer(Spoilt(fails), layouts=["forward"])


def test_a_layout_that_is_not_claimed_is_not_tried() -> None:
    conformance = QuantizerConformance()
    conformance.strategy, conformance.layouts = Spoilt(), ["forward"]
    with pytest.raises(SkipTest, match="does not claim the layout 'generate'"):
        conformance.test_a_model_converts_to_generate()
    conformance.test_a_model_converts_to_forward()


@pytest.mark.parametrize(
    "options",
    [
        {"layouts": ["backward"]},
        {"layouts": []},
        {"layouts": "forward"},
        {"relative_error": 0},
        {"relative_error": 2.0},
    ],
)
def test_an_option_that_would_test_nothing_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InvalidOptionError, match=next(iter(options))):
        check_quantizer(INT8, **options)


def test_a_bound_for_a_lossless_strategy_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="left out for a lossless strategy"):
        check_quantizer(load_plugins().quantizer("none"), relative_error=0.1)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma"])
def test_a_tiny_model_is_the_same_for_the_same_seed_and_has_a_tokenizer(family: str) -> None:
    models = tiny_model(family), tiny_model(family), tiny_model(family, seed=1)
    first, same, other = ([np.asarray(w) for w in model.weights] for model in models)
    assert all(map(np.array_equal, first, same))
    assert not all(map(np.array_equal, first, other))
    texts = ["The old mill, and 16 cats."]
    tokens = models[0].preprocessor.tokenizer(texts)
    assert models[0].preprocessor.tokenizer.detokenize(tokens) == texts


@pytest.mark.parametrize("family", ["llama", "gemma"])
@pytest.mark.parametrize("layout", ["prefill_decode", "generate", "forward"])
def test_a_tiny_model_of_each_family_converts(family: str, layout: str, tmp_path: Any) -> None:
    from llm_tflite.converter import Converter

    artifact = Converter(tiny_model(family), layout=layout).convert(tmp_path / "tiny.tflite")
    assert artifact.manifest.layout == layout


def test_an_unknown_family_is_refused() -> None:
    with pytest.raises(InvalidOptionError, match="one of gpt2, llama, gemma; got 'bert'"):
        tiny_model("bert")


def test_the_kit_needs_no_pytest() -> None:
    code = "import sys; sys.modules['pytest'] = None; import llm_tflite.testing"
    subprocess.run([sys.executable, "-c", code], check=True)
