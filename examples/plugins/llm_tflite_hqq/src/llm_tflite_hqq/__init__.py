"""Half-quadratic quantization for llm_tflite."""

from .strategy import HalfQuadratic

__all__ = ["HalfQuadratic"]
