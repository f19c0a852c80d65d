"""The little that the views need to know of einsum equations."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Equation:
    """A two-operand einsum, labels per operand and of the result."""

    operands: tuple[str, str]
    result: str

    @classmethod
    def parse(cls, text: str) -> Equation | None:
        """Read ``"ab,bc->ac"``; None where it is not explicit, not binary or repeats a label."""
        terms, arrow, result = text.replace(" ", "").partition("->")
        operands = terms.split(",")
        if not arrow or len(operands) != 2 or "." in text:
            return None
        if any(len(set(labels)) != len(labels) for labels in (*operands, result)):
            return None
        return cls((operands[0], operands[1]), result)


def permutation(source: str, target: str) -> list[int]:
    """Axes that bring labels in the order ``source`` into the order ``target``."""
    return [source.index(label) for label in target]


def is_identity(axes: list[int]) -> bool:
    """Whether a transposition by ``axes`` changes nothing."""
    return axes == sorted(axes)
