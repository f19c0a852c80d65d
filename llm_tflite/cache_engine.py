"""Runs a model of the ``prefill_decode`` layout: caches and states for each generation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .completion import Chunk
from .decoding import DecodingStates
from .errors import ContextOverflowError, InvalidOptionError, RuntimeFailureError
from .generation import CacheWriter, Generation, Request
from .manifest import Manifest
from .prompt import PromptReader
from .runtime import Array, RuntimeModel
from .sampling import Sampling
from .tokenizers import Tokenizer


class CacheEngine:
    """An ``Engine`` with explicit caches and states."""

    def __init__(self, source: str | bytes, manifest: Manifest, *, threads: int) -> None:
        """Open the model, refusing one that is not what the manifest says."""
        self._model = RuntimeModel(source, threads=threads)
        self._manifest = manifest
        self._states = DecodingStates(self._model, manifest)
        self._reader = PromptReader(manifest, None)
        self.signatures = self._model.signatures

    def check_usable(self) -> None:
        """Refuse a model that cannot run any more."""
        self._model.check_usable()

    def sampling(self, wanted: Sampling | None) -> Sampling:
        """Any way of choosing tokens will do; greedy is the default."""
        return wanted or Sampling.greedy()

    def check_request(self, request: Request) -> None:
        """There is nothing that this engine cannot do."""

    def chunks(
        self, request: Request, tokenizer: Tokenizer | None, load_s: float
    ) -> Iterator[Chunk]:
        """Write one token after the other."""
        with self._states.take() as state:
            yield from Generation(request, tokenizer, load_s).chunks(CacheWriter(state, request))

    def logits(self, ids: list[int]) -> Iterator[Array]:
        """Give the scores of what could follow each token, one decode step after the other."""
        with self._states.take() as state:
            for position, token in enumerate(ids):
                logits = state.decode(token)
                if not np.isfinite(logits.max()):
                    state.clear()
                    raise RuntimeFailureError(
                        f"the model's scores after token {position} are not finite"
                    )
                yield logits

    def run(self, signature: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run one signature; caches and states that are left out are zeros.

        Raises:
            InvalidOptionError: A name, shape or type is not the signature's, or there is no such
                ``logits_row``.
            PromptError: A token is outside the vocabulary.
            ContextOverflowError: The positions are not consecutive places of the context.
        """
        caches = self._manifest.cache
        names = {cache.name for cache in caches}
        inputs = self._model.check_arrays(signature, arrays, optional=names)
        self._reader.check_ids(inputs["tokens"].ravel())
        positions = inputs["input_pos"]
        start, length = int(positions[0]), positions.size
        slots = min(
            [self._manifest.model.context_length]
            + [inputs[c.name].shape[c.slot_axis] for c in caches if c.slot_axis is not None]
        )
        expected = np.arange(start, start + length)
        if self._manifest.model.prefix_prefill:  # its pads, which end a prompt, are at position 0
            expected[expected > positions.max()] = 0
        # The graph takes the positions to be so, and the runtime clamps a write past the end.
        if (positions != expected).any() or not (0 <= start <= slots - length):
            raise ContextOverflowError(
                f"expected input_pos to count up by one inside 0..{slots - 1}; "
                f"got {positions.tolist()}"
            )
        row = inputs.get("logits_row")
        if row is not None and not 0 <= row[0] < length:
            raise InvalidOptionError(
                f"logits_row must be inside 0..{length - 1}, the rows of a call; got {row[0]}"
            )
        return self._model.call(signature, inputs)

    def close(self) -> None:
        """Free the model and the caches that are idle; those in use are freed when done."""
        self._states.close()
        self._model.close()
