"""What a text filter is, and how prompts and answers pass through several of them.

A filter sees text as it arrives and gives out what it has decided to let through, unchanged and in
order; what it has not decided yet, it holds back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

from .errors import FilteredPromptError, InvalidOptionError, LLMTFLiteError, PluginError
from .plugin_object import json_object, method_problem, name_problem, parameter_step
from .quantization import JSON


@dataclass(frozen=True)
class Refusal:
    """What a filter does not let through.

    Attributes:
        start: Index of its first character in the text.
        end: Index after its last one.
        reason: A few words on why, such as "a word of the list", without the text itself.
    """

    start: int
    end: int
    reason: str


class TextGate(Protocol):
    """One text on its way through a filter."""

    @property
    def refusal(self) -> Refusal | None:
        """What was refused; None as long as nothing was."""

    def push(self, text: str) -> str:
        """Take the next piece of the text; return what was decided to be let through.

        What was let through before and this are together a beginning of the text. Where something
        is refused, it is the text up to there, however the text was cut into pieces.
        """
        ...

    def finish(self) -> str:
        """Return what is let through of what was held back, now that no more text will come."""
        ...


class TextFilter(Protocol):
    """Decides what may be asked and answered; anything with these three attributes is one."""

    @property
    def name(self) -> str:
        """What users ask for, such as ``"profanity"``."""

    def describe(self) -> Mapping[str, JSON]:
        """Return what tells this filter from others of its kind, such as the size of its list."""
        ...

    def begin(self) -> TextGate:
        """Return a gate for one text; gates of several texts may be open at once."""
        ...


class FilterChain:
    """An answer on its way through several filters, which know the prompt that it continues.

    Attributes:
        refused_by: The name of the filter that ended the answer, or None.
    """

    def __init__(self, filters: Sequence[TextFilter], prompt: str) -> None:
        """Begin where the prompt ends: a word may begin there and end in the answer."""
        self.refused_by: str | None = None
        self._gates = [_Gate(text_filter) for text_filter in filters]
        self._left_of_prompt = len(prompt)
        self.push(prompt)

    def push(self, text: str) -> str:
        """Return what all filters let through by now; "" once one of them has refused."""
        return self._pass(text, last=False)

    def finish(self) -> str:
        """Return what all filters let through of what was held back."""
        return self._pass("", last=True)

    def _pass(self, text: str, *, last: bool) -> str:
        if self.refused_by is not None:
            return ""
        for gate in self._gates:
            text = gate.push(text)
            if gate.refusal is None and last:
                text += gate.finish()
            if gate.refusal is not None:
                self.refused_by = gate.name
                last = True  # for the filters behind this one, the text ends here
        of_prompt = min(len(text), self._left_of_prompt)
        self._left_of_prompt -= of_prompt
        return text[of_prompt:]


def check_prompt(filters: Sequence[TextFilter], prompt: str) -> None:
    """Refuse a prompt that one of the filters does not let through.

    Raises:
        FilteredPromptError: Naming the filter and the place, and not the text.
        PluginError: A filter failed.
    """
    for text_filter in filters:
        gate = _Gate(text_filter)
        gate.push(prompt)
        if gate.refusal is None:
            gate.finish()
        if gate.refusal is not None:
            place = gate.refusal
            raise FilteredPromptError(
                f"the text filter {gate.name!r} lets no {place.reason} through, and the prompt has "
                f"one at characters {place.start} to {place.end}; nothing was run: change the "
                "prompt there",
                filter_name=gate.name,
                start=place.start,
                end=place.end,
            )


def check_text_filter(candidate: object) -> TextFilter:
    """Return ``candidate`` if it has all that a filter needs.

    Raises:
        InvalidOptionError: Saying which attribute is missing or wrong.
    """
    problem = _problem(candidate)
    if problem:
        raise InvalidOptionError(
            "expected a text filter (name, describe() and begin(), see llm_tflite.TextFilter), "
            f"but {problem}"
        )
    return cast(TextFilter, candidate)


def with_filter_parameter(text_filter: TextFilter, parameter: str) -> TextFilter:
    """Return the filter that is asked for as ``NAME:parameter``.

    Raises:
        InvalidOptionError: ``text_filter`` takes no parameter, or not this one.
        PluginError: It fails on it.
    """
    step = parameter_step("text filter", text_filter, parameter)
    with _failures_of(text_filter.name, f"the parameter {parameter!r:.80}"):
        parameterized = step(parameter)
    return check_text_filter(parameterized)


def describe_text_filter(text_filter: TextFilter) -> dict[str, Any]:
    """Return what ``text_filter`` says of itself, as a JSON object of its own.

    Raises:
        PluginError: If it fails, or says something that JSON cannot hold.
    """
    with _failures_of(text_filter.name, "describe()"):
        return json_object(text_filter.describe())


class _Gate:
    """A filter's gate that is held to what it promises; a filter that breaks lets nothing pass."""

    def __init__(self, text_filter: TextFilter) -> None:
        self.name = text_filter.name
        with _failures_of(self.name, "begin()"):
            self._gate = text_filter.begin()
        self._held = ""

    @property
    def refusal(self) -> Refusal | None:
        with _failures_of(self.name, "refusal"):
            refusal = self._gate.refusal
        if refusal is None or isinstance(refusal, Refusal):
            return refusal
        raise PluginError(
            f"the refusal of the text filter {self.name!r} must be None or a "
            f"llm_tflite.text_filter.Refusal; got {type(refusal).__name__}"
        )

    def push(self, text: str) -> str:
        self._held += text
        with _failures_of(self.name, "push()"):
            passed = self._gate.push(text)
        return self._taken(passed, "push()")

    def finish(self) -> str:
        with _failures_of(self.name, "finish()"):
            passed = self._gate.finish()
        passed = self._taken(passed, "finish()")
        if self._held and self.refusal is None:
            raise PluginError(
                f"the text filter {self.name!r} kept {len(self._held)} characters at the end and "
                "refused nothing; a filter lets text through or says what it refuses"
            )
        return passed

    def _taken(self, passed: object, call: str) -> str:
        if not isinstance(passed, str) or not self._held.startswith(passed):
            raise PluginError(
                f"{call} of the text filter {self.name!r} must return the next characters of the "
                "text that it was given, unchanged; it returned something else"
            )
        self._held = self._held[len(passed) :]
        return passed


def _problem(candidate: object) -> str | None:
    return name_problem(candidate, "'profanity'") or method_problem(
        candidate, ("describe", "begin")
    )


@contextmanager
def _failures_of(name: str, task: str) -> Iterator[None]:
    """Turn whatever a filter raises, ``SystemExit`` included, into an error of ours."""
    try:
        yield
    except LLMTFLiteError:
        raise
    except (Exception, SystemExit) as error:
        # Without the error's own text, which may hold what was being filtered.
        raise PluginError(
            f"the text filter {name!r} failed on {task} with {type(error).__name__}; no text "
            "passes a filter that fails"
        ) from error
