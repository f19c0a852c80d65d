"""The registrars that come with llm_tflite, offered through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Callable

from llm_tflite.hookspecs import hookimpl
from llm_tflite.op_registrar import OpRegistrar

from .tf_text import TFText


@hookimpl
def llm_tflite_register_custom_ops(register: Callable[[OpRegistrar], None]) -> None:
    """Register ``tf_text``."""
    register(TFText())
