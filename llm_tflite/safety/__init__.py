"""The text filters that come with llm_tflite, offered through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Callable

from llm_tflite.hookspecs import hookimpl
from llm_tflite.text_filter import TextFilter

from .profanity import ProfanityFilter


@hookimpl
def llm_tflite_register_text_filters(register: Callable[[TextFilter], None]) -> None:
    """Register ``profanity``."""
    register(ProfanityFilter())
