"""``mixed``: four bits where they cost least, and never more bytes than were asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.activations import Moments
from llm_tflite.conversion.calibration import Calibrated
from llm_tflite.demo import shapes
from llm_tflite.plugins import load_plugins
from llm_tflite.quantization import Matrices, QuantizedTensor, Weight, plan, quantize
from llm_tflite.quantizers.mixed import Mixed
from llm_tflite.tracing.float_weights import float_weights
from llm_tflite.tracing.observation import Product, ProductObserver, moments_of
from llm_tflite.tracing.reference import keras_logits

Matrix = np.ndarray[Any, np.dtype[np.float32]]


def matrices() -> list[tuple[Weight, Matrix]]:
    """A table, an embedding and three projections, of which 4 bits hurt the second most."""
    random = np.random.default_rng(0)
    names = ["layers_0/mlp/kernel", "layers_0/attention/kernel", "head/kernel"]
    sizes = [(64, 128), (64, 128), (32, 64)]
    found = [
        (
            Weight(name, "projection", shape, layer=0 if "layers" in name else None),
            random.normal(size=shape).astype(np.float32),
        )
        for name, shape in zip(names, sizes, strict=True)
    ]
    found[1][1][:, ::32] *= 10  # outliers in every block
    table = random.normal(size=(16, 64)).astype(np.float32)
    return [
        (Weight("positions", "table", (16, 64)), table),
        (Weight("embedding", "embedding", (16, 64)), table),
        *found,
    ]


def bits(strategy: Any, seen: list[tuple[Weight, Matrix]]) -> dict[str, int]:
    planned = plan(strategy, seen)
    return {
        weight.name: quantize(planned, weight, values).bits
        for weight, values in seen
        if weight.role != "table"
    }


def test_by_itself_it_takes_four_bits_for_feed_forward_matrices_only() -> None:
    assert bits(load_plugins().quantizer("mixed"), matrices()) == {
        "embedding": 8,
        "layers_0/mlp/kernel": 4,
        "layers_0/attention/kernel": 8,
        "head/kernel": 8,
    }


def test_eight_bits_go_where_four_hurt_most() -> None:
    seen = matrices()
    parameters = sum(values.size for _, values in seen)
    four = [quantize(load_plugins().quantizer("int4"), *each) for each in seen[1:]]
    least = seen[0][1].nbytes + sum(tensor.size_bytes for tensor in four)
    eight = [quantize(load_plugins().quantizer("dynamic_range"), *each) for each in seen[1:]]
    one_more = eight[2].size_bytes - four[2].size_bytes
    chosen = bits(Mixed().with_parameter(str((least + one_more) / parameters)), seen)
    assert chosen == {
        "embedding": 8,
        "layers_0/mlp/kernel": 4,
        "layers_0/attention/kernel": 8,
        "head/kernel": 4,
    }
    assert set(bits(Mixed().with_parameter(str(least / parameters)), seen).values()) == {4, 8}
    with pytest.raises(errors.QuantizationError, match="expected at least"):
        plan(Mixed().with_parameter(str((least - 1) / parameters)), seen)


def test_what_calibration_saw_decides() -> None:
    """What is multiplied with next to nothing does not count."""
    seen = matrices()[2:4]
    x = np.random.default_rng(1).normal(size=(400, 128)).astype(np.float32)
    quiet = x * 1e-4
    quiet[:, ::32] = x[:, ::32]
    strategy = Mixed().with_parameter("0.85")
    assert [*bits(strategy, seen).values()] == [4, 8]
    moments = {seen[0][0].name: Moments.of(x), seen[1][0].name: Moments.of(quiet)}
    calibrated = plan(Calibrated(strategy, {}, moments, texts=1), seen)
    assert [quantize(calibrated, *each).bits for each in seen] == [8, 4]


def test_what_the_loss_depends_on_decides() -> None:
    """Outputs that no logit follows from may be wrong; where that is unknown, shares decide."""
    seen = matrices()[2:4]
    x = np.random.default_rng(1).normal(size=(400, 128)).astype(np.float32)
    strategy = Mixed().with_parameter("0.85")

    def chosen(*gradients: float | None) -> list[int]:
        moments = {
            weight.name: replace(
                Moments.of(x),
                gradients=None if each is None else np.full(64, each, np.float32),
            )
            for (weight, _), each in zip(seen, gradients, strict=True)
        }
        planned = plan(Calibrated(strategy, {}, moments, texts=1), seen)
        return [quantize(planned, *each).bits for each in seen]

    assert chosen(1.0, 1.0) == [4, 8]
    assert chosen(1.0, 1e-6) == [8, 4]
    assert chosen(1.0, None) == [4, 8]


@pytest.mark.parametrize("budget", ["0.4", "1.2", "40"])
def test_a_budget_that_changes_nothing_or_cannot_be_met_is_refused(
    budget: str, tmp_path: Path
) -> None:
    converter = lt.Converter(
        shapes.tiny_llama(), quantizer=f"mixed:{budget}", layout="forward", max_length=16
    )
    found = r"at least 0\.\d+ bytes per parameter, .* less than 1\.\d+, which 'dynamic_range'"
    with pytest.raises(errors.QuantizationError, match=found):
        converter.convert(tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("parameter", ["", "much", "0", "-1", "nan", "inf"])
def test_what_is_no_number_of_bytes_is_refused(parameter: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match="expected bytes per parameter, such as"):
        load_plugins().quantizer(f"mixed:{parameter}")


def test_it_must_see_all_matrices_first() -> None:
    with pytest.raises(errors.QuantizationError, match=r"'mixed:0\.9' must see all matrices first"):
        quantize(load_plugins().quantizer("mixed:0.9"), *matrices()[2])


def test_a_file_stays_within_its_budget(tmp_path: Path) -> None:
    model = shapes.tiny_llama()
    texts = np.random.default_rng(0).integers(0, 160, (4, 24)).tolist()
    sizes = {}
    for budget in ("0.75", "0.9"):
        converter = lt.Converter(
            model,
            quantizer=Mixed(least_agreement=0.0).with_parameter(budget),
            layout="forward",
            max_length=32,
            calibration=texts,
        )
        manifest = converter.convert(tmp_path / f"{budget}.tflite").manifest
        assert manifest.quantization.strategy == f"mixed:{budget}"
        assert manifest.quantization.describe["calibration"] == {"texts": 4}
        stored = manifest.quantization.weights
        assert {weight.bits for weight in stored if weight.role == "projection"} == {4, 8}
        sizes[budget] = sum(weight.bytes for weight in stored) / sum(
            np.prod(weight.shape) for weight in stored
        )
    assert 0.7 < sizes["0.75"] <= 0.75 < 0.85 < sizes["0.9"] <= 0.9


@dataclass(frozen=True)
class Spy:
    """A strategy that keeps what it is shown."""

    seen: dict[str, tuple[Weight, Matrix]] = field(default_factory=dict)
    name: str = "spy"
    lossless: bool = True
    takes_calibration: bool = True

    def describe(self) -> dict[str, Any]:
        return {}

    def plan(self, matrices: Matrices) -> Spy:
        self.seen.update((weight.name, (weight, values)) for weight, values in matrices)
        return self

    def quantize(self, weight: Weight, values: Matrix) -> QuantizedTensor:
        return QuantizedTensor(values, bits=32)


@pytest.mark.parametrize("layout", ["prefill_decode", "forward"])
def test_moments_belong_to_the_columns_of_what_is_stored(layout: str, tmp_path: Path) -> None:
    """With them, a matrix gives the squares of what Keras computes with it."""
    model = shapes.tiny_llama()
    tokens = np.random.default_rng(0).integers(0, 160, 24).tolist()
    spy = Spy()
    lt.Converter(
        model,
        quantizer=spy,
        layout=layout,
        calibration=[tokens],
        **({"context_length": 32} if layout == "prefill_decode" else {"max_length": 32}),
    ).convert(tmp_path / "m.tflite")
    energies: dict[str, float] = {}

    def look(product: Product) -> Moments | None:
        energies[product.name] = float(np.square(product.result).sum())
        return moments_of(product)

    observer = ProductObserver(float_weights(model), look)
    with observer.observing():
        keras_logits(model, tokens)
    assert len(energies) >= 15
    for name, energy in energies.items():
        weight, values = spy.seen[name]
        assert weight.moments is not None
        (tile,) = weight.moments.tiles
        assert np.vdot(values @ tile, values) == pytest.approx(energy, rel=1e-4)
