"""Runs a model of the ``forward`` layout: one call reads a whole text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from .completion import Chunk
from .errors import (
    IncompatibleArtifactError,
    InvalidOptionError,
    RuntimeFailureError,
)
from .generation import Request
from .manifest import Manifest
from .prompt import PromptReader
from .runtime import Array, RuntimeModel, Signature, TensorSpec
from .sampling import Sampling
from .signature_names import SERVING
from .tokenizers import Tokenizer

_INPUTS = ("token_ids", "padding_mask")


class ForwardEngine:
    """An ``Engine`` that scores texts and writes none."""

    def __init__(self, source: str | bytes, manifest: Manifest, *, threads: int) -> None:
        """Open the model, refusing one that is not what the manifest says."""
        self._model = RuntimeModel(source, threads=threads)
        self._length = manifest.model.context_length
        self._reader = PromptReader(manifest, None)
        self.signatures = self._model.signatures
        expected = {SERVING: _signature(self._length, manifest.model.vocabulary_size)}
        if self.signatures != expected:
            raise IncompatibleArtifactError(
                f"the manifest promises {expected}; the model has {self.signatures}"
            )

    def check_usable(self) -> None:
        """Refuse a model that cannot run any more."""
        self._model.check_usable()

    def sampling(self, wanted: Sampling | None) -> Sampling:
        """Refuse: no token is chosen."""
        raise _no_text()

    def check_request(self, request: Request) -> None:
        """Refuse: nothing is written."""
        raise _no_text()

    def chunks(
        self, request: Request, tokenizer: Tokenizer | None, load_s: float
    ) -> Iterator[Chunk]:
        """Refuse: nothing is written."""
        raise _no_text()

    def logits(self, ids: list[int]) -> Iterator[Array]:
        """Give the scores of what could follow each token, all of them from one call."""
        count = len(ids)
        inputs = {name: np.zeros((1, self._length), np.int32) for name in _INPUTS}
        inputs["token_ids"][0, :count] = ids
        inputs["padding_mask"][0, :count] = 1
        logits = self._model.call(SERVING, inputs)["logits"][0]
        for position in range(count):
            if not np.isfinite(logits[position].max()):
                raise RuntimeFailureError(
                    f"the model's scores after token {position} are not finite"
                )
            yield logits[position]

    def run(self, signature: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run the signature.

        Raises:
            InvalidOptionError: A name, shape or type is not the signature's, or the mask holds
                something else than zeros and ones.
            PromptError: A token is outside the vocabulary.
        """
        inputs = self._model.check_arrays(signature, arrays)
        self._reader.check_ids(inputs["token_ids"].ravel())
        mask = inputs["padding_mask"]
        if ((mask != 0) & (mask != 1)).any():
            raise InvalidOptionError(
                f"padding_mask must hold 1 for tokens of the text and 0 for padding; got "
                f"{sorted(set(mask.ravel().tolist()))[:8]}"
            )
        return self._model.call(signature, inputs)

    def close(self) -> None:
        """Free the model."""
        self._model.close()


def _signature(length: int, vocabulary_size: int) -> Signature:
    return Signature(
        inputs={name: TensorSpec((1, length), "int32") for name in _INPUTS},
        outputs={"logits": TensorSpec((1, length, vocabulary_size), "float32")},
    )


def _no_text() -> InvalidOptionError:
    return InvalidOptionError(
        "the layout 'forward' reads a whole text at once and writes none; convert with the layout "
        "'prefill_decode' or 'generate' to generate, or use score"
    )
