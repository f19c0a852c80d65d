"""The one place that opens a TFLite runtime: models, their signatures and the buffers of a run."""

from __future__ import annotations

import ctypes
import functools
import logging
import math
import os
import sys
import tempfile
import threading
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import compiled_model
from ai_edge_litert.compiled_model import CompiledModel
from ai_edge_litert.cpu_options import CpuOptions
from ai_edge_litert.environment import Environment, EnvironmentOptions
from ai_edge_litert.options import Options
from ai_edge_litert.tensor_buffer import TensorBuffer

from .errors import ClosedError, InvalidOptionError, LLMTFLiteError, RuntimeFailureError
from .options import check_integer

_log = logging.getLogger(__name__)
_stderr_lock = threading.Lock()

# "An in-memory cache": signatures then share one packed copy of the weights. Without it each packs
# its own. GPT-2 124M int8 with four prefill lengths, 2 threads: 345 MB against 732 MB of peak
# memory, opened in 0.2 s against 0.6 s, at the same speed. Any other value names a file.
_WEIGHT_CACHE = ":memory"

Array = npt.NDArray[Any]
Buffer = Any  # ai_edge_litert ships no types


@dataclass(frozen=True)
class TensorSpec:
    """Shape and NumPy dtype name of one input or output."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Signature:
    """What one entry point of a model takes and gives."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@functools.cache  # a forked child leaves its parent's alone
def _environment(process: int) -> Environment:
    """The runtime's environment of a process: making one looks for accelerators on disk."""
    folder = Path(compiled_model.__file__).parent
    return Environment.create(options=EnvironmentOptions(runtime_path=str(folder)))


class RuntimeModel:
    """A TFLite model that is open and can be run, by one thread at a time.

    The runtime trusts its input: a damaged model may end the process. Open only what was verified.

    Args:
        source: A path (the file is mapped, and must not be written to while open) or the bytes.
        threads: How many threads a run may use; see ``thread_count``.

    Raises:
        InvalidOptionError: ``threads`` is out of range; far too many would hang the runtime.
        RuntimeFailureError: The runtime refused the model.
    """

    def __init__(self, source: str | bytes, *, threads: int | None = None) -> None:
        """Open the model and read its signatures."""
        cpu = CpuOptions(num_threads=thread_count(threads), xnnpack_weight_cache_path=_WEIGHT_CACHE)
        create = CompiledModel.from_file if isinstance(source, str) else CompiledModel.from_buffer
        with quiet_stderr(), runtime_errors("the runtime refused the model"):
            self._compiled = create(
                source, options=Options(cpu_options=cpu), environment=_environment(os.getpid())
            )
            # The first access to any buffer starts a second environment, as noisily; better here.
            TensorBuffer.create_from_host_memory(np.zeros(64, np.int8)).read(1, np.int8)
        self._source: str | bytes | None = source  # the runtime points into the bytes
        self._lock = threading.Lock()
        self._process = os.getpid()
        self.signatures = {
            name: Signature(
                _specs(self._compiled.get_input_tensor_details(name)),
                _specs(self._compiled.get_output_tensor_details(name)),
            )
            for name in sorted(self._compiled.get_signature_list())
        }

    def input_buffer(self, signature: str, name: str) -> Buffer:
        """Return new memory for an input; what it holds is undefined until written."""
        with self._using("the runtime has no memory for an input") as compiled:
            return compiled.create_input_buffer_by_name(signature, name)

    def output_buffer(self, signature: str, name: str) -> Buffer:
        """Return new memory for an output."""
        with self._using("the runtime has no memory for an output") as compiled:
            return compiled.create_output_buffer_by_name(signature, name)

    def run(
        self, signature: str, inputs: Mapping[str, Buffer], outputs: Mapping[str, Buffer]
    ) -> None:
        """Run once. A buffer given as input and output is updated in place."""
        with self._using(f"running {signature!r} failed") as compiled:
            compiled.run_by_name(signature, inputs, outputs)

    def check_arrays(
        self, signature: str, arrays: Mapping[str, Array], *, optional: Container[str] = ()
    ) -> dict[str, Array]:
        """Return the inputs of a call, zeros for the optional ones that are missing.

        Raises:
            InvalidOptionError: A name, shape or type is not the signature's.
        """
        if signature not in self.signatures:
            raise InvalidOptionError(
                f"expected one of the signatures {', '.join(self.signatures)}; got {signature!r}"
            )
        specs = self.signatures[signature].inputs
        wrong = [name for name in arrays if name not in specs]
        wrong += [name for name in specs if name not in arrays and name not in optional]
        if wrong:
            raise InvalidOptionError(
                f"{signature} takes {', '.join(specs)}; missing or not among them: "
                f"{', '.join(wrong)}"
            )
        for name, array in arrays.items():
            spec = specs[name]
            if not isinstance(array, np.ndarray):
                raise InvalidOptionError(f"{name} must be an array; got {type(array).__name__}")
            if (array.shape, array.dtype.name) != (spec.shape, spec.dtype):
                raise InvalidOptionError(
                    f"{name} must be an array of {spec.dtype} with shape {spec.shape}; got "
                    f"{array.dtype.name} with shape {array.shape}"
                )
        return {
            name: arrays[name] if name in arrays else np.zeros(spec.shape, spec.dtype)
            for name, spec in specs.items()
        }

    def call(self, signature: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run once on arrays that were checked, and return every output as a new array."""
        inputs = {name: self.input_buffer(signature, name) for name in arrays}
        for name, array in arrays.items():
            inputs[name].write(array)
        specs = self.signatures[signature].outputs
        outputs = {name: self.output_buffer(signature, name) for name in specs}
        self.run(signature, inputs, outputs)
        return {
            name: outputs[name].read(math.prod(spec.shape), spec.dtype).reshape(spec.shape)
            for name, spec in specs.items()
        }

    def close(self) -> None:
        """Free the model, after the run that may be in progress."""
        with self._lock, quiet_stderr():
            self._compiled = self._source = None
        return_freed_memory()

    def check_usable(self) -> None:
        """Refuse a model that cannot run any more.

        Raises:
            ClosedError: It was closed.
            RuntimeFailureError: It belongs to the process that this one was forked from.
        """
        if self._compiled is None:
            raise ClosedError("the interpreter is closed; open the artifact again")
        if os.getpid() != self._process:
            # The runtime's threads did not survive the fork, so a run would wait for ever.
            raise RuntimeFailureError(
                "this interpreter was opened before the process forked; open one in the child"
            )

    @contextmanager
    def _using(self, failure: str) -> Iterator[Any]:
        # The binding of ai-edge-litert 2.3 holds the GIL during a run, but nothing promises that.
        with self._lock:
            self.check_usable()
            with runtime_errors(failure):
                yield self._compiled


def thread_count(threads: int | None) -> int:
    """Return how many threads to use: by default 4, or as many as the machine has.

    Raises:
        InvalidOptionError: More than the machine has, which is slower; far too many would hang.
    """
    available = os.cpu_count() or 1
    return min(4, available) if threads is None else check_integer("threads", threads, 1, available)


def return_freed_memory() -> None:
    """Let glibc give back what was freed; of a model of 1.5 B parameters it would keep 700 MB."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library has no such call
            ctypes.CDLL(None).malloc_trim(0)


def _specs(details: Mapping[str, Mapping[str, Any]]) -> dict[str, TensorSpec]:
    return {
        name: TensorSpec(tuple(detail["shape"]), np.dtype(detail["dtype"]).name)
        for name, detail in sorted(details.items())
    }


@contextmanager
def runtime_errors(what: str) -> Iterator[None]:
    """Turn the runtime's errors into ours; the message begins with ``what``."""
    try:
        yield
    except LLMTFLiteError:
        raise
    except (RuntimeError, ValueError) as e:
        raise RuntimeFailureError(f"{what}: {str(e).replace('└', '').strip()}") from e


@contextmanager
def quiet_stderr() -> Iterator[None]:
    """Send the runtime's chatter to ``logging`` (level DEBUG) instead of the terminal.

    It prints some twenty lines per model, straight to file descriptor 2, and has no switch. What
    others write meanwhile is passed on.
    """
    with _stderr_lock, tempfile.TemporaryFile() as sink:
        try:
            terminal = os.dup(2)
        except OSError:  # no stderr at all, as in a Windows program without a console
            yield
            return
        if sys.stderr is not None:
            sys.stderr.flush()
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            sink.seek(0)
            for line in sink:
                if line.startswith((b"INFO: ", b"WARNING: ", b"ERROR: ", "└".encode())):
                    _log.debug("%s", line.decode("utf-8", "replace").rstrip())
                else:
                    os.write(terminal, line)
            os.close(terminal)
