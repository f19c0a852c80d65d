"""Convert signatures to a TFLite model without weights, in seconds for a model of any size."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Iterator

import tensorflow as tf

from ..errors import ConversionError
from .signatures import Signatures


def convert_skeleton(signatures: Signatures) -> bytes:
    """Return a ``.tflite`` model whose large weights are inputs of its signatures.

    Raises:
        ConversionError: An operation has no builtin TFLite form; the converter's words are in it.
    """
    module = tf.Module()
    module.captured = list(signatures.captured)
    module.functions = list(signatures.functions.values())
    with tempfile.TemporaryDirectory(prefix="llm_tflite_") as folder, _quiet():
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        tf.saved_model.save(module, folder, signatures=signatures.functions, options=options)
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=list(signatures.functions)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            return bytes(converter.convert())
        except Exception as error:  # The converter raises its own, private, error types.
            raise ConversionError(
                "expected every operation to have a builtin TFLite form; the TensorFlow Lite "
                f"converter refused: {_first_lines(error)}"
            ) from error


def _first_lines(error: Exception, count: int = 4) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:count])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's native chatter off the user's terminal; errors still come as exceptions."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    sys.stderr.flush()
    saved = os.dup(2)
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    try:
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(sink)
        logger.setLevel(level)
