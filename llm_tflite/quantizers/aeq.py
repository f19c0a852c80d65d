"""Recipes of ai-edge-quantizer, matrix by matrix.

``aeq:RECIPE`` stores what Google's quantizer would, without handing a whole float32 file to it: the
layouts, the check against Keras and the manifest are those of any other quantizer, and memory
stays that of one matrix. What a recipe says of other operations than products of a matrix and
lookups in a table does not concern a file of ours: they stay in float32.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from llm_tflite.activations import ActivationScale, Distribution
from llm_tflite.errors import QuantizationError
from llm_tflite.quantization import JSON, QuantizedTensor, Weight

from . import aeq_recipes
from .aeq_recipes import GPTQ, PACKAGE, Rule
from .aeq_rounding import round_matrix, round_with_moments
from .block_scales import Floats
from .full_integer import statistics_of
from .int4 import Int4
from .int8 import Int8


@dataclass(frozen=True)
class AeqRecipes:
    """All recipes there are: ``aeq:RECIPE``, or ``aeq:RECIPE:ALGORITHM``.

    Attributes:
        name: ``aeq``.
        lossless: False.
    """

    name: str = "aeq"
    lossless: bool = False

    def describe(self) -> Mapping[str, JSON]:
        """Return where recipes come from."""
        return {"package": PACKAGE}

    def parameters(self) -> Sequence[str]:
        """Return the recipes of the installed version that can be stored."""
        return aeq_recipes.recipe_names()

    def with_parameter(self, parameter: str) -> AeqRecipe:
        """Return the strategy of ``aeq:RECIPE`` or ``aeq:RECIPE:ALGORITHM``.

        Raises:
            MissingDependencyError: ai-edge-quantizer is not installed.
            InvalidOptionError: There is no such recipe or algorithm, or no file of ours can hold
                what it asks for.
        """
        recipe, colon, algorithm = parameter.partition(":")
        rules = aeq_recipes.rules_of(recipe, algorithm if colon else None)
        four_bits = any(rule.quantizes and rule.bits == 4 for rule in rules)
        return AeqRecipe(
            name=f"{self.name}:{parameter}",
            recipe=recipe,
            rules=rules,
            package=f"{PACKAGE} {aeq_recipes.version()}",
            least_agreement=Int4.least_agreement if four_bits else 0.9,
        )

    def quantize(self, weight: Weight, values: Floats) -> QuantizedTensor:
        """Refuse: there is no recipe."""
        raise QuantizationError(f"{self.name!r} needs a recipe: use with_parameter()")


@dataclass(frozen=True)
class AeqRecipe:
    """One recipe.

    Where it cannot be followed (a width that blocks do not divide, a scale beyond float16), a
    matrix is kept at 8 bits with a scale per row, and noted. A tied table is stored as its product
    asks.

    Attributes:
        name: Such as ``aeq:dynamic_wi4_afp32:OCTAV``.
        recipe: Such as ``dynamic_wi4_afp32``.
        rules: The last one that matches a matrix counts.
        package: Of which package and version.
        least_agreement: As for ``full_integer``; as for ``int4`` if anything has four bits.
        lossless: False.
    """

    name: str
    recipe: str
    rules: tuple[Rule, ...]
    package: str
    least_agreement: float
    lossless: bool = False

    @property
    def needs_calibration(self) -> bool:
        """Whether activations are static, or errors are made up for."""
        return self.takes_calibration or self._any("activations", "static")

    @property
    def takes_calibration(self) -> bool:
        """Whether it rounds by what matrices are multiplied with, as GPTQ does."""
        return self._any("algorithm", GPTQ)

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        described: dict[str, JSON] = {"package": self.package, "recipe": self.recipe}
        described["rules"] = [rule.describe() for rule in self.rules]
        if self._any("activations", "static"):
            described["activation_ranges"] = "smallest and largest value"
        return described

    def quantize(self, weight: Weight, values: Floats) -> QuantizedTensor:
        """Return a matrix as the recipe says."""
        looked_up = weight.role == "embedding" and not weight.tied
        operation = "EMBEDDING_LOOKUP" if looked_up else "FULLY_CONNECTED"
        rule = self._rule(operation, weight.name)
        if rule is None:
            note = f"the recipe does not quantize this {operation}: kept as float32"
            return QuantizedTensor(values, bits=32, note=note)
        if values.size < rule.fewest_values:
            note = f"fewer than {rule.fewest_values} values: kept as float32"
            return QuantizedTensor(values, bits=32, note=note)
        tensor = _rounded(weight, values, rule)
        if looked_up:
            return replace(tensor, activations="float")
        return _static(tensor, weight, rule) if rule.activations == "static" else tensor

    def _rule(self, operation: str, name: str) -> Rule | None:
        for rule in reversed(self.rules):
            if rule.operation == operation and re.search(rule.regex, name):
                return rule if rule.quantizes else None
        return None

    def _any(self, attribute: str, value: object) -> bool:
        return any(rule.quantizes and getattr(rule, attribute) == value for rule in self.rules)


def _rounded(weight: Weight, values: Floats, rule: Rule) -> QuantizedTensor:
    """Follow the rule, or a plainer one and say why; a static product is dynamic so far."""
    activations: Literal["float", "dynamic"] = "float" if rule.activations == "float" else "dynamic"
    columns = values.shape[1]
    multiple = rule.block_size or (2 if rule.bits == 4 else 1)
    rounded, note = None, ""
    if columns % multiple:
        note = f"in-dimension {columns} is not a multiple of {multiple}"
    elif rule.algorithm != GPTQ:
        rounded = round_matrix(values, rule)
    elif weight.moments is not None:
        rounded = round_with_moments(values, rule, weight.moments)
    else:
        note = "no rows of inputs were seen: rounded to nearest"
        rounded = round_matrix(values, rule.to_nearest())
    if rounded is None:
        note = note or f"{rule.algorithm} finds no scale for its values"
        tensor = Int8(rule.algorithm, activations).quantize(weight, values)
        return replace(tensor, note=f"{note}: kept at 8 bits")
    return QuantizedTensor(
        rounded[0],
        bits=rule.bits,
        scales=rounded[1],
        block_size=rule.block_size,
        activations=activations,
        note=note,
    )


def _static(tensor: QuantizedTensor, weight: Weight, rule: Rule) -> QuantizedTensor:
    seen = statistics_of(weight)
    if seen is None:
        return tensor
    scale = _symmetric if rule.activation_bits == 16 else _spanning
    return replace(tensor, activations="static", input=scale(seen.input), output=scale(seen.output))


def _spanning(seen: Distribution) -> ActivationScale:
    return ActivationScale.spanning(*seen.span)


def _symmetric(seen: Distribution) -> ActivationScale:
    low, high = seen.span
    return ActivationScale.symmetric(max(-low, high))
