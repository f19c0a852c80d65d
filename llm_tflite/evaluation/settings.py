"""How a file is evaluated, apart from what it is evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

from ..options import check_integer
from ..runtime import thread_count


@dataclass(frozen=True)
class Settings:
    """Options of ``evaluate`` and ``compare``, which describe them; refused where out of range.

    Raises:
        InvalidOptionError: Naming the option.
    """

    window: int | None
    greedy_texts: int
    greedy_tokens: int
    threads: int | None
    runs: int
    seed: int

    def __post_init__(self) -> None:
        """Check what can be checked without a file."""
        if self.window is not None:
            check_integer("window", self.window, 1)
        check_integer("greedy_texts", self.greedy_texts, 0)
        check_integer("greedy_tokens", self.greedy_tokens, 1)
        thread_count(self.threads)
        check_integer("runs", self.runs, 1)
        check_integer("seed", self.seed, 0)

    def window_within(self, context_length: int) -> int:
        """Tokens that are read at once: the window, or the whole context.

        Raises:
            InvalidOptionError: The context does not hold the window.
        """
        if self.window is None:
            return context_length
        return check_integer("window", self.window, 1, context_length)
