"""Which installed registrar runs which custom operation of a model."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .errors import InvalidOptionError, MissingOpsError, PluginConflictError, PluginError
from .op_registrar import OpRegistrar, describe_registrar
from .plugins import DISABLE_VARIABLE, load_plugins

# TensorFlow's own operations in a TFLite model; the runtimes with a Flex delegate run them.
FLEX = "Flex"
_MAX_NAMES = 10
# Those of TensorFlow Text that `tf_text` does not cover.
_TF_TEXT = re.compile(r"TFText>|Sentencepiece\w*Op$|WordpieceTokenize|SentenceFragments$")


@dataclass(frozen=True)
class CustomOperation:
    """Who runs a custom operation.

    Attributes:
        name: The operation, as it stands in the file.
        registrars: Names of the installed registrars that cover it; more than one is a conflict.
        description: What the first of them says of itself.
    """

    name: str
    registrars: tuple[str, ...]
    description: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return a line for people."""
        if self.registrars:
            facts = "".join(f", {key} {value}" for key, value in self.description.items())
            return f"{self.name}: registrar {' and '.join(self.registrars)}{facts}"
        if self.name.startswith(FLEX):
            return f"{self.name}: TensorFlow with the Flex delegate"
        return f"{self.name}: no registrar covers it"


def custom_operations(names: Iterable[str]) -> tuple[CustomOperation, ...]:
    """Say who runs each of the operations; without operations, no plugin is imported."""
    return tuple(_custom_operation(name) for name in sorted(set(names)))


def _custom_operation(name: str) -> CustomOperation:
    covering = [r for _, r in load_plugins().registrars() if name in r.operations]
    description: dict[str, Any] = {}
    if covering:
        try:
            description = describe_registrar(covering[0])
        except PluginError as error:  # Its failure is no reason to say nothing of the file.
            description = {"error": str(error)}
    return CustomOperation(name, tuple(r.name for r in covering), description)


def choose_registrars(
    names: Sequence[str], wanted: Iterable[str | OpRegistrar] | None
) -> tuple[list[OpRegistrar], list[str]]:
    """Return the registrars that a model needs, and its operations that are left to Flex.

    Args:
        names: The custom operations of the model.
        wanted: Names of registrars, or registrars, all of which shall be used and no others; None
            for those installed ones that the model needs.

    Raises:
        MissingOpsError: Nobody covers an operation, and it is none of TensorFlow's.
        PluginConflictError: Two registrars cover one operation.
        InvalidOptionError: ``wanted`` is no list of registrars.
        UnknownPluginNameError: No plugin offers a registrar of a name in ``wanted``.
    """
    offers = _offers(names, wanted)
    chosen = {} if wanted is None else {id(registrar): registrar for _, registrar in offers}
    uncovered = []
    for name in names:
        covering = [
            (owner, registrar) for owner, registrar in offers if name in registrar.operations
        ]
        if len(covering) > 1:
            raise PluginConflictError(
                f"one registrar should cover the operation {name!r:.80}, but there are "
                f"{' and '.join(owner for owner, _ in covering)}; pass one of them in "
                f"registrars=[...], or name the other's plugin in the environment variable "
                f"{DISABLE_VARIABLE}"
            )
        if not covering:
            uncovered.append(name)
        chosen |= {id(registrar): registrar for _, registrar in covering}
    missing = [name for name in uncovered if not name.startswith(FLEX)]
    if missing:
        raise MissingOpsError(_missing(missing), missing)
    return list(chosen.values()), uncovered


def _offers(
    names: Sequence[str], wanted: Iterable[str | OpRegistrar] | None
) -> list[tuple[str, OpRegistrar]]:
    """Registrars to choose from, each with how a message calls it."""
    plugins = load_plugins()
    if wanted is None:
        installed = plugins.registrars() if names else []
        return [(f"{r.name!r} of {info}", r) for info, r in installed]
    if isinstance(wanted, str) or not isinstance(wanted, Iterable):
        raise InvalidOptionError(
            f"registrars must be a list of names or registrars, or None; got {wanted!r:.80}"
        )
    return [(repr(r.name), r) for r in map(plugins.registrar, wanted)]


def in_words(names: Sequence[str]) -> str:
    """Return names from a file as a list that a message can hold, however many they are."""
    shown = ", ".join(f"{name:.80}" for name in names[:_MAX_NAMES])
    more = len(names) - _MAX_NAMES
    return f"{shown} and {more} more" if more > 0 else shown


def _missing(names: Sequence[str]) -> str:
    message = f"expected a registrar for every custom operation; nobody covers {in_words(names)}"
    plugins = load_plugins()
    installed = [r for _, r in plugins.registrars() if not set(names).isdisjoint(r.operations)]
    if installed:
        message += f". Installed, but not passed: {', '.join(r.name for r in installed)}"
    unknown = set(names).difference(*(r.operations for r in installed))
    if unknown:
        message += (
            ". Install a plugin that does (it implements the hook llm_tflite_register_custom_ops), "
            "or convert the model without it"
        )
    if any(_TF_TEXT.match(name) for name in unknown):
        message += (
            ". tensorflow-text has TFLite kernels for some of its operations, and for this it has "
            "none: with SELECT_TF_OPS it becomes one of TensorFlow's, for the Flex delegate"
        )
    return message + plugins.failures()
