"""What a registrar of custom operations is, and the one way to call it.

A registrar brings the kernels of operations that no TFLite runtime has by itself. Kernels are
compiled code inside this process: nothing here can check what they do, or that they were built for
the runtime that calls them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias, cast

from .errors import InvalidOptionError, LLMTFLiteError, PluginError
from .plugin_object import json_object, method_problem, name_problem
from .quantization import JSON

# What TFLite's interpreters take in the list `custom_op_registerers`.
Registerer: TypeAlias = str | Callable[[int], object]


class OpRegistrar(Protocol):
    """Brings the kernels of custom operations; anything with these four attributes is one."""

    @property
    def name(self) -> str:
        """What users ask for and ``inspect`` shows, such as ``"tf_text"``."""

    @property
    def operations(self) -> Collection[str]:
        """The custom operations that it covers, by their names in a ``.tflite`` file."""

    def describe(self) -> Mapping[str, JSON]:
        """Return what ``inspect`` shows beside the name, such as the package of the kernels."""
        ...

    def registerers(self) -> Sequence[Registerer]:
        """Load the kernels; called once for every model that has one of the operations.

        Returns:
            Callables, and names of C functions in libraries that were loaded with
            ``ctypes.RTLD_GLOBAL``. Each is given the address of the runtime's
            ``tflite::MutableOpResolver`` and adds kernels to it.
        """
        ...


def check_registrar(candidate: object) -> OpRegistrar:
    """Return ``candidate`` if it has all that a registrar needs.

    Raises:
        InvalidOptionError: Saying which attribute is missing or wrong.
    """
    problem = _problem(candidate)
    if problem:
        raise InvalidOptionError(
            "expected a registrar of custom operations (name, operations, describe() and "
            f"registerers(), see llm_tflite.OpRegistrar), but {problem}"
        )
    return cast(OpRegistrar, candidate)


def _problem(candidate: object) -> str | None:
    if problem := name_problem(candidate, "'tf_text'"):
        return problem
    kind = type(candidate).__name__
    operations = getattr(candidate, "operations", None)
    if not isinstance(operations, Collection) or isinstance(operations, str | bytes):
        return f"{kind}.operations is {operations!r:.80}; it holds names, as a list or a set does"
    wrong = [o for o in operations if not isinstance(o, str) or not o]
    if wrong or not operations:
        return f"{kind}.operations holds {wrong[0]!r:.80}" if wrong else f"{kind} covers nothing"
    return method_problem(candidate, ("describe", "registerers"))


def describe_registrar(registrar: OpRegistrar) -> dict[str, Any]:
    """Return what ``registrar`` says of itself, as a JSON object of its own.

    Raises:
        PluginError: If it fails, or says something that JSON cannot hold.
    """
    with _failures_of(registrar, "describe()"):
        return json_object(registrar.describe())


def load_registerers(registrar: OpRegistrar) -> list[Registerer]:
    """Return what a runtime takes; a callable that fails in the runtime is named by its registrar.

    Raises:
        MissingDependencyError: A package of the registrar's is not installed.
        PluginError: If it fails, or returns something else.
    """
    with _failures_of(registrar, "registerers()"):
        found = registrar.registerers()
        entries = [found] if isinstance(found, str) else list(found)
    for entry in entries:
        if isinstance(found, str) or not (isinstance(entry, str) or callable(entry)):
            raise PluginError(
                f"the registrar {registrar.name!r} must return a list of callables and names of C "
                f"functions from registerers(); got {found!r:.80}"
            )
    return [e if isinstance(e, str) else _named_in_errors(registrar, e) for e in entries]


def _named_in_errors(
    registrar: OpRegistrar, registerer: Callable[[int], object]
) -> Callable[[int], None]:
    def register(address: int) -> None:
        with _failures_of(registrar, "adding its kernels"):
            registerer(address)

    return register


@contextmanager
def _failures_of(registrar: OpRegistrar, task: str) -> Iterator[None]:
    """Turn whatever a registrar raises, ``SystemExit`` included, into an error of ours."""
    try:
        yield
    except LLMTFLiteError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"the registrar {registrar.name!r} failed on {task}: {type(error).__name__}: {error}"
        ) from error
