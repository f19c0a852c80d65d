"""What the entry point names."""

from __future__ import annotations

from collections.abc import Callable

from llm_tflite import QuantizationStrategy, hookimpl

from .strategy import HalfQuadratic


@hookimpl
def llm_tflite_register_quantizers(register: Callable[[QuantizationStrategy], None]) -> None:
    """Offer ``hqq4``."""
    register(HalfQuadratic())
