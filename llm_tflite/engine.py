"""What an interpreter asks of an open model, whatever its layout."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from .completion import Chunk
from .generation import Request
from .runtime import Array, Signature
from .sampling import Sampling
from .tokenizers import Tokenizer


class Engine(Protocol):
    """An open model. It may be used from many threads; runs take turns."""

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The entry points, with shapes and types."""

    def check_usable(self) -> None:
        """Refuse a model that was closed, or belongs to a process that this one was forked from.

        Raises:
            ClosedError: It was closed.
            RuntimeFailureError: It belongs to another process.
        """

    def sampling(self, wanted: Sampling | None) -> Sampling:
        """Return how tokens will be chosen.

        Raises:
            InvalidOptionError: The model cannot choose them as wanted.
        """

    def check_request(self, request: Request) -> None:
        """Refuse what the model cannot do.

        Raises:
            InvalidOptionError: It cannot honour an option.
            PromptError: The prompt cannot reach it exactly as given.
        """

    def chunks(
        self, request: Request, tokenizer: Tokenizer | None, load_s: float
    ) -> Iterator[Chunk]:
        """Run a request that was checked."""

    def logits(self, ids: list[int]) -> Iterator[Array]:
        """Read a text that fits; give the float32 ``[V]`` scores of what could follow each token.

        Raises:
            InvalidOptionError: The model gives no logits.
            RuntimeFailureError: The model's logits are not finite.
        """

    def run(self, signature: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run one signature on arrays of exactly its shapes and types; returns its outputs."""

    def close(self) -> None:
        """Free the model."""
