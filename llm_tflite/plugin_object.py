"""What the objects that plugins offer have in common: a name, methods, and words on themselves."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, Protocol, cast

from .errors import InvalidOptionError

_NAME = re.compile(r"\w[\w.:+-]{0,99}", re.ASCII)


class _Named(Protocol):
    @property
    def name(self) -> str: ...


def name_problem(candidate: object, examples: str) -> str | None:
    """Say why a candidate is no instance with a name; ``examples`` are of good names."""
    if isinstance(candidate, type):
        return f"got the class {candidate.__name__}; pass an instance of it"
    name = getattr(candidate, "name", None)
    if isinstance(name, str) and _NAME.fullmatch(name):
        return None
    return f"the name of this {type(candidate).__name__} is {name!r:.80}; names are like {examples}"


def method_problem(
    candidate: object, methods: Iterable[str], optional: Iterable[str] = ()
) -> str | None:
    """Name the first method that a candidate lacks, or has as something else."""
    missing = [m for m in methods if not callable(getattr(candidate, m, None))]
    missing += [m for m in optional if not callable(getattr(candidate, m, print))]
    return f"{type(candidate).__name__} has no method {missing[0]}()" if missing else None


def json_object(described: Any) -> dict[str, Any]:
    """Return a mapping as a JSON object of its own; raises where JSON cannot hold it."""
    return cast(dict[str, Any], json.loads(json.dumps(dict(described), allow_nan=False)))


def parameter_step(noun: str, candidate: _Named, parameter: str) -> Any:
    """Return the method that makes ``NAME:parameter`` of an object.

    Raises:
        InvalidOptionError: It has none.
    """
    step = getattr(candidate, "with_parameter", None)
    if step is None:
        raise InvalidOptionError(
            f"the {noun} {candidate.name!r} takes no parameter; got {parameter!r:.80} after ':'"
        )
    return step
