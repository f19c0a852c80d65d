"""What every quantization strategy must keep to, as claims that are tested one at a time."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest import SkipTest

import numpy as np

from ..artifact import Artifact
from ..converter import LAYOUT_OPTIONS, Converter
from ..errors import (
    ConformanceError,
    ConversionError,
    InvalidOptionError,
    LLMTFLiteError,
    QuantizationError,
)
from ..interpreter import Interpreter
from ..quantization import (
    QuantizationStrategy,
    QuantizedTensor,
    check_strategy,
    describe,
    needs_calibration,
    plan,
    quantize,
)
from .matrices import Matrix, all_matrices, odd_matrices, usual_matrices
from .models import CONTEXT, TEXTS, tiny_model
from .stored_forms import (
    ROLES,
    Role,
    difference,
    relative_error,
    scales_that_change,
    weight_of,
)

# The most that a strategy may lose of `usual_matrices`, by the bits that it stores: the root mean
# square of the error over that of the values. The largest magnitude of a row over 127 gives 0.008
# and 0.011, of blocks of 32 over 7 gives 0.10 and 0.12.
_BOUNDS: Mapping[int, float] = {32: 1e-6, 16: 1e-3, 8: 0.02, 4: 0.15}
_LAYOUTS = tuple(LAYOUT_OPTIONS)
_SETTINGS: Mapping[str, dict[str, Any]] = {
    "prefill_decode": {"context_length": CONTEXT, "prefill_lengths": (8,)}
}


class QuantizerConformance:
    """The claims as methods that pytest collects in a subclass whose name begins with ``Test``.

    Attributes:
        strategy: What is tested.
        layouts: Those that the strategy claims to work in.
        relative_error: The most that it may lose of normal and of heavy-tailed values, as a share
            of their root mean square. By default 0.001, 0.02 and 0.15 at 16, 8 and 4 bits; set it
            for a strategy that has fewer levels than its bits could hold. One that is lossless
            must give float32 back as it was.
    """

    strategy: QuantizationStrategy
    layouts: Sequence[str] = _LAYOUTS
    relative_error: float | None = None
    _planned: QuantizationStrategy | None = None

    def test_it_has_what_a_strategy_needs(self) -> None:
        """A name, ``lossless``, ``describe()`` and ``quantize()``; the claims' own settings."""
        try:
            check_strategy(getattr(self, "strategy", None))
        except InvalidOptionError as error:
            raise ConformanceError(str(error)) from error
        layouts = () if isinstance(self.layouts, str) else self.layouts
        if not layouts or set(layouts) - set(_LAYOUTS):
            raise InvalidOptionError(
                f"layouts must be some of {', '.join(_LAYOUTS)}; got {self.layouts!r:.80}"
            )
        bound = self.relative_error
        if bound is not None and (self.strategy.lossless or not 0 < bound < 1):
            raise InvalidOptionError(
                "relative_error must be between 0 and 1, and left out for a lossless strategy; "
                f"got {bound!r:.80}"
            )

    def test_it_describes_itself_in_json_and_always_alike(self) -> None:
        """Files are compared by their bytes, and the manifest is among them."""
        first = self._described(self.strategy)
        for name, values in usual_matrices().items():
            self._stored(name, "projection", values)
        if (second := self._described(self.strategy)) != first:
            raise self._broken(f"must describe itself always alike, not as {first}, then {second}")

    def test_a_plan_is_always_alike_and_still_the_same_strategy(self) -> None:
        """After ``plan()``, for strategies that have one; all matrices here make up one model."""
        if not hasattr(self.strategy, "plan"):
            raise SkipTest(f"{self.strategy.name!r} has no plan()")
        before = self._described(self.strategy)
        first, second = self._plan(), self._plan()
        told = self._described(first)
        if first.name != self.strategy.name or {**told, **before} != told:
            raise self._broken(f"must describe itself after plan() as {before}, not as {told}")
        if (again := self._described(second)) != told:
            raise self._broken(f"must plan always alike, not as {told}, then as {again}")
        if first.lossless != self.strategy.lossless:
            raise self._broken("must not change what it says of `lossless` in plan()")
        for role, name, values in self._roles(all_matrices()):
            tensors = [self._quantized(planned, name, role, values) for planned in (first, second)]
            if found := difference(*tensors):
                raise self._broken(f"must plan always alike; {name} as {role}: {found} differ")

    def test_any_finite_matrix_can_be_stored(self) -> None:
        """Odd shapes, zeros, tiny and huge values: never refused, and zeros are no worse."""
        for role, name, values in self._roles(odd_matrices()):
            tensor = self._stored(name, role, values)
            restored = tensor.dequantize()
            if not np.isfinite(restored).all():
                raise self._broken(f"must restore finite values for {name} as {role}")
            if restored[~values.any(axis=1)].any():
                raise self._broken(f"must restore zeros as zeros for {name} as {role}")
            # What is too small for a scale may become zeros.
            if (error := relative_error(values, restored)) > 1.000001:
                raise self._broken(
                    f"must not be further off than zeros would be; for {name} as {role} it is "
                    f"{error:.3g} times as far"
                )

    def test_the_same_matrix_is_always_stored_alike(self) -> None:
        """Whatever came in between, and in whatever order the values lie in memory."""
        matrices = list(all_matrices().items())
        first = [self._stored(name, "projection", values) for name, values in matrices]
        for (name, values), before in reversed(list(zip(matrices, first, strict=True))):
            after = self._stored(name, "projection", np.asfortranarray(values))
            if found := difference(before, after):
                raise self._broken(f"must store the same matrix alike; {name}: {found} differ")

    def test_it_leaves_its_input_alone(self) -> None:
        """The file is checked against these very values."""
        for role, name, values in self._roles(usual_matrices()):
            given = values.copy()
            self._stored(name, role, given)
            if given.tobytes() != values.tobytes():
                raise self._broken(f"must not change the matrix that it is given ({name})")

    def test_what_it_loses_is_within_bounds(self) -> None:
        """By the bits that it stores, or ``relative_error``."""
        for role, name, values in self._roles(usual_matrices()):
            tensor = self._stored(name, role, values)
            bound = _BOUNDS[32 if self.strategy.lossless else tensor.bits]
            if self.relative_error is not None:
                bound = self.relative_error
            if (error := relative_error(values, tensor.dequantize())) > bound:
                raise self._broken(
                    f"may lose {bound:g} of {name} as {role}; it loses {error:.3g} at "
                    f"{tensor.bits} bits (relative root mean square)"
                )

    def test_scales_of_blocks_are_those_that_the_runtime_multiplies_with(self) -> None:
        """The file holds them in float16 and XNNPACK rounds them to bfloat16."""
        for role, name, values in self._roles(all_matrices()):
            tensor = self._stored(name, role, values)
            if changed := scales_that_change(tensor):
                raise self._broken(
                    "must have scales of blocks that float16 and bfloat16 both hold; "
                    f"{changed} of those for {name} as {role} would be rounded"
                )

    def test_a_weight_that_is_not_finite_is_refused_by_name(self) -> None:
        """No file is left, whatever the strategy makes of NaN."""
        model = tiny_model()
        kernel = next(w for w in model.trainable_weights if w.path.endswith("query/kernel"))
        values = np.asarray(kernel).copy()
        values.flat[0] = np.nan
        kernel.assign(values)
        with tempfile.TemporaryDirectory() as folder:
            try:
                self._convert(model, self.layouts[0], Path(folder) / "tiny.tflite")
            except LLMTFLiteError as error:
                # Where texts are read first, it is what comes out of the layer that is NaN.
                layer = kernel.path.removesuffix("/kernel")
                if not isinstance(error, ConversionError) or layer not in str(error):
                    raise self._broken(
                        f"must let {kernel.path}, which has NaN, be refused by name, not by "
                        f"{type(error).__name__}: {error}"
                    ) from error
            else:
                raise self._broken(f"must not convert a model whose {kernel.path} has NaN")
            if left := sorted(p.name for p in Path(folder).iterdir()):
                raise self._broken(f"must leave no file behind a refusal, not {left}")

    def test_a_model_converts_to_prefill_decode(self) -> None:
        """The file passes the check against Keras, and the runtime writes text with it."""
        self._check_layout("prefill_decode")

    def test_a_model_converts_to_generate(self) -> None:
        """As for ``prefill_decode``, with the tokenizer inside."""
        self._check_layout("generate")

    def test_a_model_converts_to_forward(self) -> None:
        """The file passes the check against Keras, and the runtime scores a text with it."""
        self._check_layout("forward")

    def _check_layout(self, layout: str) -> None:
        if layout not in self.layouts:
            raise SkipTest(f"{self.strategy.name!r} does not claim the layout {layout!r}")
        with tempfile.TemporaryDirectory() as folder:
            try:
                model = tiny_model()
                path, again = Path(folder) / "tiny.tflite", Path(folder) / "again.tflite"
                artifact = self._convert(model, layout, path)
                self._convert(model, layout, again)
                with Interpreter(path) as interpreter:
                    if layout == "forward":
                        interpreter.score(TEXTS[0])
                    else:
                        interpreter.generate(TEXTS[0], max_new_tokens=4)
            except LLMTFLiteError as error:
                raise self._broken(
                    f"must work in the layout {layout!r}; {type(error).__name__}: {error}"
                ) from error
            if path.read_bytes() != again.read_bytes():
                raise self._broken(f"must make the same file twice in the layout {layout!r}")
            said = artifact.manifest.quantization
            # A manifest may say more, such as what was measured.
            described = self._described(self.strategy)
            if (
                said.strategy != self.strategy.name
                or {**said.describe, **described} != said.describe
            ):
                raise self._broken(f"must stand in the manifest as it describes itself, not {said}")

    def _convert(self, model: Any, layout: str, path: Path) -> Artifact:
        calibration = TEXTS if needs_calibration(self.strategy) else None
        converter = Converter(
            model,
            layout=layout,
            quantizer=self.strategy,
            calibration=calibration,
            **_SETTINGS.get(layout, {}),
        )
        return converter.convert(path)

    def _described(self, strategy: QuantizationStrategy) -> dict[str, Any]:
        try:
            return describe(strategy)
        except QuantizationError as error:
            raise ConformanceError(str(error)) from error

    def _stored(self, name: str, role: Role, values: Matrix) -> QuantizedTensor:
        """A matrix of ``all_matrices``, by a strategy that has seen all of them."""
        if self._planned is None:
            self._planned = self._plan()
        return self._quantized(self._planned, name, role, values)

    def _quantized(
        self, strategy: QuantizationStrategy, name: str, role: Role, values: Matrix
    ) -> QuantizedTensor:
        try:
            return quantize(strategy, weight_of(strategy, role, name, values), values)
        except QuantizationError as error:
            raise self._broken(f"must be able to store {name} as {role}; {error}") from error

    def _plan(self) -> QuantizationStrategy:
        matrices = (
            (weight_of(self.strategy, role, name, values), values)
            for role, name, values in self._roles(all_matrices())
        )
        try:
            return plan(self.strategy, matrices)
        except (QuantizationError, InvalidOptionError) as error:
            raise self._broken(f"must plan for all matrices of these claims; {error}") from error

    def _roles(self, matrices: Mapping[str, Matrix]) -> Iterator[tuple[Role, str, Matrix]]:
        for role in ROLES:
            for name, values in matrices.items():
                yield role, name, values

    def _broken(self, claim: str) -> ConformanceError:
        return ConformanceError(f"the quantizer {self.strategy.name!r} {claim}")


def check_quantizer(
    strategy: QuantizationStrategy,
    *,
    layouts: Sequence[str] = _LAYOUTS,
    relative_error: float | None = None,
) -> None:
    """Check every claim of ``QuantizerConformance``, in a minute or less.

    Args:
        strategy: An object as a plugin would register it.
        layouts: As for ``QuantizerConformance``.
        relative_error: As for ``QuantizerConformance``.

    Raises:
        ConformanceError: An ``AssertionError`` that says which claim failed, and on what.
        InvalidOptionError: ``layouts`` or ``relative_error`` cannot be honoured.
    """
    conformance = QuantizerConformance()
    conformance.strategy = strategy
    conformance.layouts = layouts
    conformance.relative_error = relative_error
    for name in vars(QuantizerConformance):
        if name.startswith("test_"):
            try:
                getattr(conformance, name)()
            except SkipTest:  # A layout that is not claimed.
                continue
