"""What a recipe of ai-edge-quantizer asks for, as rules for the matrices of a language model.

A recipe (``ai_edge_quantizer/recipe_manager.py``) is a list of settings for operations whose names
match a regular expression; the last one that matches an operation and can be applied to it counts.
The package is imported when a recipe is asked for: that takes a second.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from llm_tflite.errors import InvalidOptionError, MissingDependencyError
from llm_tflite.quantization import JSON

PACKAGE = "ai-edge-quantizer"
OPERATIONS = ("FULLY_CONNECTED", "EMBEDDING_LOOKUP")

MIN_MAX, GPTQ = "min_max_uniform_quantize", "GPTQ"
# Those that do no more than to round, and their modules.
ALGORITHMS = {
    MIN_MAX: "naive_min_max_quantize",
    "OCTAV": "octav",
    "MSE": "mse",
    GPTQ: "gptq",
    "dequantized_weight_recovery": "dequantized_weight_recovery",
}

# Its functions are called, not only its files read, so another version is another matter.
_SERIES = "0.10."
_FILE_ENDING = "_recipe.json"
_NO_QUANTIZE = "no_quantize"
# Why a matrix cannot be stored for these, whatever its values.
_MORE_THAN_ROUNDING = {
    "HADAMARD_ROTATION": "inserts custom operations that rotate activations",
    "DECOMPOSED_HADAMARD_ROTATION": "inserts products that rotate activations",
    "OSCAR": "inserts products that scale activations",
}
# Bits of activations that have one scale, and whether there is no zero point.
_STATIC = ((8, False), (16, True))
_BLOCK_SIZES = {f"BLOCKWISE_{size}": size for size in (32, 64, 128, 256)} | {"CHANNELWISE": 0}


@dataclass(frozen=True)
class Rule:
    """Settings for operations of one kind.

    Attributes:
        regex: What the path of a matrix' variable must match somewhere.
        operation: ``"FULLY_CONNECTED"`` or ``"EMBEDDING_LOOKUP"``.
        algorithm: Such as ``"OCTAV"``.
        config: ai-edge-quantizer's ``OpQuantizationConfig``.
    """

    regex: str
    operation: str
    algorithm: str
    config: Any

    @property
    def quantizes(self) -> bool:
        """Whether it is no exception from others."""
        return self.algorithm != _NO_QUANTIZE

    @property
    def bits(self) -> int:
        """Of a weight."""
        return int(self.config.weight_tensor_config.num_bits)

    @property
    def granularity(self) -> str:
        """Of a weight's scales, such as ``"CHANNELWISE"``."""
        return _text(self.config.weight_tensor_config.granularity)

    @property
    def block_size(self) -> int:
        """How many neighbours in a row share a scale; 0 for the whole row."""
        return _BLOCK_SIZES[self.granularity]

    @property
    def activations(self) -> Literal["float", "dynamic", "static"]:
        """What becomes of the other factor, as in ``QuantizedTensor``."""
        if self.config.activation_tensor_config is not None:
            return "static"
        return "dynamic" if _text(self.config.compute_precision) == "INTEGER" else "float"

    @property
    def activation_bits(self) -> int | None:
        """Of static activations: 8 with a zero point, or 16 without."""
        found = self.config.activation_tensor_config
        return None if found is None else int(found.num_bits)

    @property
    def fewest_values(self) -> int:
        """Smaller matrices of products stay in float32; tables do not."""
        return int(self.config.min_weight_elements) if self.operation == OPERATIONS[0] else 0

    def to_nearest(self) -> Rule:
        """Return the rule with the plainest algorithm, which looks at no activations."""
        return replace(self, algorithm=MIN_MAX)

    def describe(self) -> Mapping[str, JSON]:
        """Return the settings, for the manifest."""
        described: dict[str, JSON] = {"regex": self.regex, "operation": self.operation}
        described["algorithm"] = self.algorithm
        if self.quantizes:
            described["bits"] = self.bits
            described["granularity"] = self.granularity
            described["activations"] = self.activations
            if self.activation_bits is not None:
                described["activation_bits"] = self.activation_bits
            if self.fewest_values:
                described["min_weight_elements"] = self.fewest_values
        return described

    def obstacle(self) -> str:
        """Say why no matrix can be stored so, if none can."""
        if not self.quantizes:
            return ""
        weight, activation = self.config.weight_tensor_config, self.config.activation_tensor_config
        if self.algorithm not in ALGORITHMS:
            reason = _MORE_THAN_ROUNDING.get(self.algorithm, "is not known here")
            return f"{self.algorithm} {reason}"
        if weight.num_bits not in (4, 8) or _text(weight.dtype) != "INT":
            return f"no kernel here reads weights of {weight.num_bits} bits ({_text(weight.dtype)})"
        if not weight.symmetric:
            return "weights would have zero points, which kernels for language models do not read"
        if self.granularity not in _BLOCK_SIZES:
            return f"scales of weights would be {self.granularity}"
        if activation is not None and (activation.num_bits, activation.symmetric) not in _STATIC:
            kind = "symmetric" if activation.symmetric else "asymmetric"
            return f"activations would be {kind} integers of {activation.num_bits} bits"
        if activation is not None and weight.num_bits != 8:
            return "static products are of 8-bit weights only"
        if self.block_size and self.bits != 4:
            return f"no kernel here reads blocks of {self.bits} bits"
        if self.block_size and (self.algorithm == "MSE" or self.activations == "float"):
            reader = "MSE" if self.algorithm == "MSE" else "DEQUANTIZE"
            return f"{reader} takes no blocks of {self.block_size}"
        return ""


def recipe_names() -> list[str]:
    """Return the recipes of the installed version that can be stored.

    Raises:
        MissingDependencyError: ai-edge-quantizer is not installed.
    """
    return [name for name in _all_names() if not _refusal(name, _rules(name, None))]


def rules_of(name: str, algorithm: str | None = None) -> tuple[Rule, ...]:
    """Return the rules of a recipe; the last one that matches a matrix counts.

    Args:
        name: A function of ``ai_edge_quantizer.recipe``, or a file of the package's ``recipes``.
        algorithm: Instead of the recipe's own; None for that.

    Raises:
        MissingDependencyError: ai-edge-quantizer is not installed.
        InvalidOptionError: There is no such recipe or algorithm, or the recipe asks for what
            cannot be stored.
    """
    names = _all_names()
    if name not in names:
        usable = recipe_names()
        others = ", ".join(other for other in names if other not in usable)
        raise InvalidOptionError(
            f"expected a recipe of {PACKAGE} {version()} out of {', '.join(usable)}; got "
            f"{name!r:.80}. It also has {others}, which cannot be stored"
        )
    if algorithm not in (None, *ALGORITHMS):
        raise InvalidOptionError(
            f"expected an algorithm out of {', '.join(ALGORITHMS)} behind the recipe {name!r}; "
            f"got {algorithm!r:.80}"
        )
    rules = _rules(name, algorithm)
    if refusal := _refusal(name, rules):
        raise InvalidOptionError(refusal)
    return rules


def version() -> str:
    """Return the version of ai-edge-quantizer.

    Raises:
        MissingDependencyError: None is installed, or one that is not known here.
    """
    try:
        found = metadata.version(PACKAGE)
    except metadata.PackageNotFoundError:
        found = "none"
    if not found.startswith(_SERIES):
        raise MissingDependencyError(
            f"recipes of {PACKAGE} need its version {_SERIES}*, found {found}: "
            "pip install 'llm-tflite[aeq]'"
        )
    return found


def _all_names() -> list[str]:
    version()
    from ai_edge_quantizer import recipe

    names = [name for name, _ in inspect.getmembers(recipe, inspect.isfunction)]
    folder = Path(recipe.__file__).with_name("recipes")
    files = sorted(path.name.removesuffix(_FILE_ENDING) for path in folder.glob(f"*{_FILE_ENDING}"))
    return list(dict.fromkeys(name for name in [*names, *files] if not name.startswith("_")))


def _rules(name: str, algorithm: str | None) -> tuple[Rule, ...]:
    """All that may count, in the order of ``RecipeManager.get_quantization_configs``."""
    from ai_edge_quantizer import qtyping, recipe_manager

    manager = recipe_manager.RecipeManager()
    manager.load_quantization_recipe(_settings(name, algorithm))
    rules: list[Rule] = []
    for setting in manager.get_quantization_recipe():
        config = None
        if _text(setting["algorithm_key"]) != _NO_QUANTIZE:
            config = qtyping.OpQuantizationConfig.from_dict(setting["op_config"])
        for operation in OPERATIONS:
            rule = Rule(setting["regex"], operation, _text(setting["algorithm_key"]), config)
            if _text(setting["operation"]) in ("*", operation) and _applies(rule):
                rules = [other for other in rules if not _hides(rule, other)]
                rules.append(rule)
    return tuple(rules)


def _settings(name: str, algorithm: str | None) -> list[dict[str, Any]]:
    """The recipe as the package gives it; what is for one part of a file is for all of ours."""
    from ai_edge_quantizer import recipe
    from ai_edge_quantizer.utils import recipe_utils

    if algorithm is None:
        parts = recipe_utils.resolve_litertlm_recipe_or_mapping(name)
        settings = [setting for part in parts.values() for setting in part]
    else:
        try:
            settings = getattr(recipe, name)(algorithm_key=algorithm)
        except (AttributeError, TypeError) as error:
            raise InvalidOptionError(
                f"the recipe {name!r} has an algorithm of its own; leave out {algorithm!r}"
            ) from error
    return [setting for at, setting in enumerate(settings) if setting not in settings[:at]]


def _applies(rule: Rule) -> bool:
    """Whether ai-edge-quantizer would apply it; if not, it goes on to the rule before."""
    from ai_edge_quantizer import algorithm_manager

    if not rule.quantizes:
        return True
    try:
        algorithm_manager.check_op_quantization_config(rule.algorithm, rule.operation, rule.config)
    except ValueError:
        return False
    return True


def _hides(later: Rule, earlier: Rule) -> bool:
    return later.operation == earlier.operation and later.regex in (".*", earlier.regex)


def _refusal(name: str, rules: tuple[Rule, ...]) -> str:
    """Say why a recipe cannot be had, if so."""
    told = f"the recipe {name!r} of {PACKAGE} {version()}"
    for rule in rules:
        if obstacle := rule.obstacle():
            return f"{told} cannot be stored: {obstacle} ({rule.operation})"
    if not any(rule.quantizes for rule in rules):
        neither = " nor ".join(OPERATIONS)
        return f"{told} quantizes no matrix: this version applies it to neither {neither}"
    return ""


def _text(value: Any) -> str:
    """What an enumeration of strings, or a string, says."""
    return str(getattr(value, "value", value))
