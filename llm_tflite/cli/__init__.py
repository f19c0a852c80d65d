"""The command line: ``llm-tflite convert | generate | inspect | plugins``, a module for each."""

from .program import main, run

__all__ = ["main", "run"]
