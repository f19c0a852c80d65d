"""Runs a graph that takes and gives text, in the runtime that every TFLite has.

``CompiledModel`` wants fixed shapes, and a text has none; this is the older ``Interpreter`` of the
same package, or for strings the one of a TensorFlow that has the operations for them; see ``ops``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from .errors import ClosedError, RuntimeFailureError
from .ops import open_interpreter
from .runtime import Array, Signature, TensorSpec, quiet_stderr, runtime_errors
from .signature_names import SERVING


@dataclass(frozen=True)
class TextResult:
    """What one run gave.

    Attributes:
        text: Prompt and answer in UTF-8, without control tokens.
        tokens: Those of prompt and answer, control tokens among them.
        prompt_tokens: How many of them are the prompt's.
    """

    text: bytes
    tokens: tuple[int, ...]
    prompt_tokens: int


class TextModel:
    """A model of the ``generate`` layout that is open; one run at a time.

    Args:
        source: A path, which must not be written to while open, or the bytes.
        threads: How many threads a run may use; see ``runtime.thread_count``.
        form: How text goes in and out; see ``manifest.TextFacts``.

    Raises:
        MissingOpsError: Nothing here runs one of its operations, such as those of strings.
        RuntimeFailureError: The runtime refused the model.
    """

    def __init__(
        self,
        source: str | bytes,
        *,
        threads: int | None = None,
        form: Literal["bytes", "string"] = "bytes",
    ) -> None:
        """Open the model and read its signatures."""
        self._lock = threading.Lock()
        self._process = os.getpid()
        self._form = form
        self._interpreter: Any = open_interpreter(source, threads=threads)
        with quiet_stderr(), runtime_errors("the runtime refused the model"):
            runner = self._interpreter.get_signature_runner(SERVING)
            inputs, outputs = runner.get_input_details(), runner.get_output_details()
        self._inputs = {name: int(detail["index"]) for name, detail in inputs.items()}
        every = self._interpreter.get_output_details()
        self._outputs = {detail["name"]: int(detail["index"]) for detail in every}
        self._outputs |= {name: int(detail["index"]) for name, detail in outputs.items()}
        self.signatures = {SERVING: Signature(_input_specs(inputs), _specs(outputs))}

    def call(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run once; returns every output of the graph, the hidden ones too."""
        with self._lock:
            self.check_usable()
            with runtime_errors("running the model failed"):
                for name, array in arrays.items():
                    self._interpreter.resize_tensor_input(self._inputs[name], array.shape)
                self._interpreter.allocate_tensors()
                for name, array in arrays.items():
                    self._interpreter.set_tensor(self._inputs[name], array)
                self._interpreter.invoke()
                return {
                    name: self._interpreter.get_tensor(index)
                    for name, index in self._outputs.items()
                }

    def generate(self, prompt: bytes, noise: npt.NDArray[np.float32] | None = None) -> TextResult:
        """Continue a prompt in UTF-8; ``noise`` exactly where the signature has it."""
        string = self._form == "string"
        arrays = {
            "prompt": string_array(prompt) if string else np.frombuffer(prompt + b"\0", np.uint8)
        }
        if noise is not None:
            arrays["noise"] = noise
        outputs = self.call(arrays)
        count = int(outputs["token_count"])
        return TextResult(
            text=outputs["text"].item() if string else outputs["text"].tobytes()[:-1],
            tokens=tuple(outputs["tokens"][:count].tolist()),
            prompt_tokens=int(outputs["prompt_count"]),
        )

    def close(self) -> None:
        """Free the model, after the run that may be in progress."""
        with self._lock:
            self._interpreter = None

    def check_usable(self) -> None:
        """Refuse a model that cannot run any more.

        Raises:
            ClosedError: It was closed.
            RuntimeFailureError: It belongs to the process that this one was forked from.
        """
        if self._interpreter is None:
            raise ClosedError("the interpreter is closed; open the artifact again")
        if os.getpid() != self._process:
            raise RuntimeFailureError(
                "this interpreter was opened before the process forked; open one in the child"
            )


def string_array(text: bytes) -> Array:
    """Return a text in the only form that every runtime reads as a string, whatever is in it.

    Of an array without dimensions the runtime reads the object's address or UTF-32, and NumPy's own
    string types lose zeros at the end; none of that is an error.
    """
    return np.array([text], dtype=object)


def _input_specs(details: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    """The same, but a string is an array of one; see ``string_array``."""
    return {
        name: TensorSpec((1,), "object") if spec == TensorSpec((), "object") else spec
        for name, spec in _specs(details).items()
    }


def _specs(details: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    """Shapes and types; -1 stands for any length. Strings are objects of the type ``bytes``."""
    return {
        name: TensorSpec(
            tuple(int(dim) for dim in detail["shape_signature"]),
            "object" if detail["dtype"] is np.bytes_ else np.dtype(detail["dtype"]).name,
        )
        for name, detail in sorted(details.items())
    }
