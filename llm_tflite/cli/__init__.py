"""The command line ``llm-tflite``, a module for each of its commands."""

from .program import main, run

__all__ = ["main", "run"]
