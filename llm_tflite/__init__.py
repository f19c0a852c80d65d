"""A KerasHub causal language model goes in; one file that a phone runs comes out.

Every public name is here. They are loaded when first used, so importing this package is cheap and
imports neither TensorFlow nor Keras.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ._version import __version__

# `plugins` is a submodule too: bound here, the function stays what the name means.
from .plugins import plugins

if TYPE_CHECKING:
    from .artifact import Artifact
    from .completion import Chunk, Completion, Score, Timings, TokenLogprob
    from .converter import Converter
    from .errors import LLMTFLiteError
    from .evaluation.compare import compare
    from .evaluation.comparison import Comparison
    from .evaluation.evaluate import evaluate
    from .evaluation.report import Report
    from .hookspecs import hookimpl
    from .inspection import inspect
    from .interpreter import Interpreter
    from .op_registrar import OpRegistrar
    from .ops import open_interpreter
    from .progress import Progress
    from .quantization import QuantizationStrategy, QuantizedTensor, Weight
    from .sampling import Sampling
    from .text_filter import TextFilter

_HOMES = {
    "Artifact": "artifact",
    "Chunk": "completion",
    "Comparison": "evaluation.comparison",
    "Completion": "completion",
    "Converter": "converter",
    "Interpreter": "interpreter",
    "LLMTFLiteError": "errors",
    "OpRegistrar": "op_registrar",
    "Progress": "progress",
    "QuantizationStrategy": "quantization",
    "QuantizedTensor": "quantization",
    "Report": "evaluation.report",
    "Sampling": "sampling",
    "Score": "completion",
    "TextFilter": "text_filter",
    "Timings": "completion",
    "TokenLogprob": "completion",
    "Weight": "quantization",
    "compare": "evaluation.compare",
    "evaluate": "evaluation.evaluate",
    "hookimpl": "hookspecs",
    "inspect": "inspection",
    "open_interpreter": "ops",
}

__all__ = [
    "Artifact",
    "Chunk",
    "Comparison",
    "Completion",
    "Converter",
    "Interpreter",
    "LLMTFLiteError",
    "OpRegistrar",
    "Progress",
    "QuantizationStrategy",
    "QuantizedTensor",
    "Report",
    "Sampling",
    "Score",
    "TextFilter",
    "Timings",
    "TokenLogprob",
    "Weight",
    "__version__",
    "compare",
    "evaluate",
    "hookimpl",
    "inspect",
    "open_interpreter",
    "plugins",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
