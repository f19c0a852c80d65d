"""The float model that a file is compared with: a Keras model, or a float32 file made of it."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ..artifact import Artifact
from ..errors import IncompatibleArtifactError, InvalidOptionError, MissingDependencyError
from ..files import PathLike, open_regular
from ..flatbuffer.stored_weights import StoredWeight, stored_weights, taken_apart
from ..interpreter import Interpreter
from ..manifest import Manifest, QuantizedWeight

Logits = npt.NDArray[np.float32]
# Path of the Keras variable and its shape as stored: one variable may be stored in two forms.
WeightKey = tuple[str, tuple[int, ...]]
Matrix = Callable[[], npt.NDArray[np.float32]]


class Reference(Protocol):
    """A float model that reads the same tokens as the file."""

    name: str

    def check(self, manifest: Manifest) -> None:
        """Refuse to be compared with a file of another model.

        Raises:
            InvalidOptionError: Saying in which respect they differ.
        """

    def logits(self, ids: Sequence[int]) -> Iterable[Logits]:
        """Read a text; give the scores of what could follow each token."""

    def matrices(self, manifest: Manifest) -> Mapping[WeightKey, Matrix]:
        """The float32 values of each weight, in the form in which the file stores them."""


@contextmanager
def opened_reference(source: Any, *, threads: int | None) -> Iterator[Reference]:
    """Open what a caller gives as the reference.

    Args:
        source: A Keras model, or an artifact or the path of one.
        threads: Threads of a run, for an artifact.

    Raises:
        InvalidOptionError: It is an artifact with weights that are not float32.
        UnsupportedModelError: It is neither.
    """
    if isinstance(source, Artifact) or hasattr(source, "__fspath__") or isinstance(source, str):
        artifact = as_artifact(source)
        with Interpreter(file_of(artifact), threads=threads) as interpreter:
            yield FileReference(artifact, interpreter)
    else:
        yield KerasReference(source)


class KerasReference:
    """A Keras model, computing in float32 whatever its policy, as files do."""

    def __init__(self, model: Any) -> None:
        """Refuse what is no causal language model."""
        try:
            from ..tracing.reference import TextReader
            from ..tracing.requirements import check_model, vocabulary_size
        except ImportError as error:
            raise MissingDependencyError(
                f"a Keras model needs {error.name}: pip install 'llm-tflite[convert]'"
            ) from error
        check_model(model)
        self.name = type(model).__name__
        self._model = model
        self._vocabulary_size = vocabulary_size(model)
        self._reader = TextReader(model)
        self._matrices: dict[tuple[str, int, tuple[int, ...]], Mapping[WeightKey, Matrix]] = {}

    def check(self, manifest: Manifest) -> None:
        """Refuse a file of another model."""
        _check_vocabulary(self._vocabulary_size, manifest)

    def logits(self, ids: Sequence[int]) -> Logits:
        """The full forward pass over one text."""
        from ..tracing.float_code import float_code

        # Keras warns of a softmax over one place; what follows a token does not change its scores.
        read = ids if len(ids) > 1 else [*ids, *ids]
        with float_code(self._model):
            return self._reader.logits(read)[: len(ids)]

    def matrices(self, manifest: Manifest) -> Mapping[WeightKey, Matrix]:
        """The variables, turned as the file's graphs read them; traced once for each form."""
        from ..tracing.float_code import float_code
        from ..tracing.matrices import decoding_weights, forward_weights

        facts = manifest.model
        form = (manifest.layout, facts.context_length, facts.prefill_lengths)
        if form not in self._matrices:
            with float_code(self._model):
                if manifest.layout == "forward":
                    weights = forward_weights(self._model, facts.context_length)
                else:
                    weights = decoding_weights(
                        self._model, facts.context_length, facts.prefill_lengths
                    )
            self._matrices[form] = {(w.variable.path, w.shape): w.values for w in weights}
        return self._matrices[form]


class FileReference:
    """A float32 file of the model."""

    def __init__(self, artifact: Artifact, interpreter: Interpreter) -> None:
        """Refuse a file that lost something of the model."""
        low = [weight for weight in artifact.manifest.quantization.weights if weight.bits < 32]
        if low:
            raise InvalidOptionError(
                "the reference must be a float32 file (quantizer='none') or a Keras model; "
                f"{artifact.path} holds {low[0].name} in {low[0].bits} bits"
            )
        check_gives_logits(artifact)
        self.name = f"{artifact.manifest.model.class_} in {file_of(artifact).name}"
        self._artifact = artifact
        self._interpreter = interpreter

    def check(self, manifest: Manifest) -> None:
        """Refuse a file of another model, or one that reads longer texts."""
        ours = self._artifact.manifest.model
        _check_vocabulary(ours.vocabulary_size, manifest)
        if ours.context_length < manifest.model.context_length:
            raise InvalidOptionError(
                f"the reference must read texts of {manifest.model.context_length} tokens, as the "
                f"file does; it reads {ours.context_length}"
            )

    def logits(self, ids: Sequence[int]) -> Iterator[Logits]:
        """Run the file."""
        return self._interpreter.logits(ids)

    def matrices(self, manifest: Manifest) -> Mapping[WeightKey, Matrix]:
        """What the file stores."""
        return {(w.name, w.shape): s.dequantize for w, s in artifact_weights(self._artifact)}


def as_artifact(source: Artifact | PathLike) -> Artifact:
    """Open a path, or take an artifact that is on disk."""
    artifact = source if isinstance(source, Artifact) else Artifact.open(source)
    file_of(artifact)
    return artifact


def file_of(artifact: Artifact) -> Path:
    """Where an artifact is.

    Raises:
        InvalidOptionError: In memory only, where no other process can measure it.
    """
    if artifact.path is None:
        raise InvalidOptionError("expected an artifact on disk; this one is in memory: save it")
    return artifact.path


def check_gives_logits(artifact: Artifact) -> None:
    """Refuse a layout that cannot be compared.

    Raises:
        InvalidOptionError: It gives text only.
    """
    if artifact.manifest.layout == "generate":
        raise InvalidOptionError(
            "the layout 'generate' gives text and no logits, so little can be said of it; evaluate "
            "a file of the layout 'prefill_decode' with the same quantizer, which stores the same "
            "weights"
        )


def artifact_weights(artifact: Artifact) -> list[tuple[QuantizedWeight, StoredWeight]]:
    """What the manifest says of each weight, and what the file holds of it.

    Raises:
        CorruptArtifactError: The file was changed since it was written; nothing of it is read.
        IncompatibleArtifactError: They do not fit one another.
    """
    artifact.verify()  # what parses the model trusts it
    begin, end = artifact.model_section()
    with open_regular(file_of(artifact)) as stream:
        mapped = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    listed = artifact.manifest.quantization.weights
    stored = stored_weights(memoryview(mapped)[begin:end])
    found = list(taken_apart(stored, [weight.shape for weight in listed]))
    for weight, values in zip(listed, found, strict=True):
        if weight.bits != values.bits:
            raise IncompatibleArtifactError(
                f"{artifact.path}: expected {weight.name} in {weight.bits} bits, as the manifest "
                f"says; the model holds it in {values.bits}"
            )
    return list(zip(listed, found, strict=True))


def _check_vocabulary(size: int, manifest: Manifest) -> None:
    if size != manifest.model.vocabulary_size:
        raise InvalidOptionError(
            f"the reference must have the file's vocabulary of {manifest.model.vocabulary_size} "
            f"tokens; it has {size}: the file was made of another model"
        )
