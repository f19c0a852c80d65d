"""Loads the Keras model that is to be converted."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from ..errors import ConversionError, MissingDependencyError


def load_named_model(name: str) -> Any:
    """Load what is named in one word: a ``.keras`` file, or else a preset; errors as below."""
    if name.endswith(".keras"):
        return load_keras_model(preset=None, path=name)
    return load_keras_model(preset=name, path=None)


def load_keras_model(*, preset: str | None, path: str | None) -> Any:
    """Load a KerasHub preset or else a file that Keras saved.

    Raises:
        ArtifactNotFoundError: There is no file at ``path``.
        ConversionError: Keras cannot load it.
        MissingDependencyError: Keras or TensorFlow is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if path is not None:
        from ..files import open_regular

        open_regular(path).close()  # its errors are plainer than those of Keras
    try:
        with _silent_descriptor_2():
            import keras
            import keras_hub
    except ImportError as e:
        raise MissingDependencyError(
            f"converting needs {e.name}: pip install 'llm-tflite[convert]'"
        ) from e
    try:
        if preset is not None:
            return keras_hub.models.CausalLM.from_preset(preset, dtype="float32")
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as e:  # of any type: networks, archives, configurations, weights
        source = preset or path
        raise ConversionError(f"Keras cannot load {source}: {type(e).__name__}: {e}") from e


@contextlib.contextmanager
def _silent_descriptor_2() -> Iterator[None]:
    """Hide what TensorFlow writes while it is imported, before it reads its log level."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)
