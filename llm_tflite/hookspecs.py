"""Every hook of llm_tflite, on one screen.

A plugin is an installed package with an entry point in the group ``llm_tflite`` that names a
module of functions marked with ``hookimpl``::

    [project.entry-points.llm_tflite]
    my_quantizers = "my_package.quantizers"
"""

from __future__ import annotations

from collections.abc import Callable

import pluggy

from .op_registrar import OpRegistrar
from .quantization import QuantizationStrategy
from .text_filter import TextFilter

PROJECT = "llm_tflite"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


def hook_names() -> list[str]:
    """Return the names of all hooks."""
    return [name for name in globals() if name.startswith(f"{PROJECT}_")]


@hookspec
def llm_tflite_register_quantizers(register: Callable[[QuantizationStrategy], None]) -> None:
    """Offer quantization strategies: call ``register(strategy)`` once for each."""


@hookspec
def llm_tflite_register_custom_ops(register: Callable[[OpRegistrar], None]) -> None:
    """Offer kernels of custom operations: call ``register(registrar)`` once for each registrar."""


@hookspec
def llm_tflite_register_text_filters(register: Callable[[TextFilter], None]) -> None:
    """Offer filters of prompts and answers: call ``register(text_filter)`` once for each."""
