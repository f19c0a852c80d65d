"""Convert signatures to one TFLite model without weights, in seconds for a model of any size."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from ..errors import ConversionError
from ..flatbuffer.merge import Part
from ..flatbuffer.model import embed_buffers, operator_name, parse
from .signatures import Signature
from .string_form import ordered_options


def convert_signature(signature: Signature) -> Part:
    """Convert one signature; its large weights are inputs.

    Each signature is a graph of its own: that takes a third of the time that a SavedModel of all of
    them takes, which TensorFlow writes once and reads twice.

    Raises:
        ConversionError: An operation has no builtin TFLite form; the converter's words are in it.
    """
    converter = tf.compat.v1.lite.TFLiteConverter(
        signature.graph, list(signature.inputs.values()), list(signature.outputs.values())
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    with _quiet():
        model = _converted(converter, signature.name)
    return Part(signature.name, model, list(signature.inputs), list(signature.outputs))


def convert_function(function: Any, *, custom: Collection[str]) -> Any:
    """Convert a ``tf.function`` with an input signature and nothing but constants.

    Args:
        function: The function; its results become those of the signature ``serving_default``.
        custom: Names of the custom operations that it may contain. Those that begin with ``Flex``
            are TensorFlow's own.

    Raises:
        ConversionError: It contains others, or one without a builtin form.
    """
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], tf.Module()
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    if any(name.startswith("Flex") for name in custom):
        converter.target_spec.supported_ops.append(tf.lite.OpsSet.SELECT_TF_OPS)
    converter.allow_custom_ops = True
    with _quiet():
        model = _converted(converter, "the text's graph")
    for code in model.operatorCodes:
        if code.customCode is not None and code.customCode.decode() not in custom:
            allowed = " and ".join(["builtin operations", *sorted(custom)])
            raise ConversionError(f"expected {allowed} only; found {code.customCode.decode()}")
    for operator in (o for graph in model.subgraphs for o in graph.operators):
        if operator_name(model, operator).startswith("Flex"):
            options = ordered_options(bytes(operator.customOptions))
            operator.customOptions = np.frombuffer(options, np.uint8)
    return model


def _converted(converter: Any, name: str) -> Any:
    # Else the converter reads its result in Python, to merge constants that `share_buffers` merges.
    converter._experimental_use_buffer_offset = True
    try:
        data = bytes(converter.convert())
    except Exception as error:  # The converter raises its own, private, error types.
        raise ConversionError(
            f"expected every operation of {name} to have a builtin TFLite form; the "
            f"TensorFlow Lite converter refused: {_first_lines(error)}"
        ) from error
    model = parse(data)
    embed_buffers(model, data)
    return model


def _first_lines(error: Exception, count: int = 4) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " | ".join(lines[:count])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the converter's native chatter off the terminal; errors still come as exceptions."""
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
