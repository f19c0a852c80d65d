"""Opens any ``.tflite`` file, with the kernels of its custom operations."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ai_edge_litert.interpreter import InterpreterWithCustomOps

from .bundle.tflite_model import read_custom_operations
from .errors import CorruptArtifactError, PluginError
from .files import PathLike, open_regular, storage_errors
from .flex_runtime import open_with_flex
from .op_coverage import choose_registrars
from .op_registrar import OpRegistrar, load_registerers
from .runtime import quiet_stderr, runtime_errors, thread_count


def open_interpreter(
    model: PathLike | bytes,
    *,
    threads: int | None = None,
    registrars: Iterable[str | OpRegistrar] | None = None,
) -> Any:
    """Return TFLite's own interpreter for a model of any program, all custom operations registered.

    It is the one of ``ai_edge_litert``, or TensorFlow's for a model with operations of TensorFlow
    (Flex). Whether all others have a kernel is settled before the runtime sees the file. The
    runtime trusts the rest of the file, and kernels are code: open what you trust.

    Args:
        model: Path of a ``.tflite`` file, which must not be written to while open, or its bytes.
        threads: How many threads a run may use; by default 4, or as many as the machine has.
        registrars: Names of registrars, or registrars, to use instead of the installed ones that
            the model needs.

    Returns:
        An ``ai_edge_litert.interpreter.Interpreter`` or a ``tf.lite.Interpreter``, on which
        ``get_signature_runner()``, or ``allocate_tensors()`` and so on, can be called.

    Raises:
        ArtifactNotFoundError: There is no file at the path.
        CorruptArtifactError: It is not a TFLite model, or it was cut or altered.
        MissingOpsError: Nothing here runs one of its operations; it says what would.
        MissingDependencyError: The package that a registrar takes its kernels from is missing.
        PluginConflictError: Two registrars cover one operation.
        PluginError: A registrar failed, or names a C function that no loaded library has.
        InvalidOptionError: ``threads`` is out of range, or ``registrars`` no list of registrars.
        RuntimeFailureError: The runtime refused the model.
    """
    threads = thread_count(threads)
    chosen, flex = choose_registrars(_custom_operations(model), registrars)
    registerers = [(r.name, entry) for r in chosen for entry in load_registerers(r)]
    arguments = {
        "model_content" if isinstance(model, bytes) else "model_path": model,
        "num_threads": threads,
        "custom_op_registerers": [entry for _, entry in registerers],
    }
    symbols = {entry: name for name, entry in registerers if isinstance(entry, str)}
    with quiet_stderr(), runtime_errors("the runtime refused the model"), _symbols_of(symbols):
        if flex:
            return open_with_flex(flex, **arguments)
        return InterpreterWithCustomOps(**arguments)


def _custom_operations(model: PathLike | bytes) -> tuple[str, ...]:
    if isinstance(model, bytes):
        return read_custom_operations(io.BytesIO(model), 0, len(model))
    with open_regular(model) as stream, storage_errors(model):
        try:
            return read_custom_operations(stream, 0, stream.seek(0, io.SEEK_END))
        except CorruptArtifactError as e:
            raise CorruptArtifactError(f"{model}: {e}") from e


@contextmanager
def _symbols_of(symbols: Mapping[str, str]) -> Iterator[None]:
    """Name the registrar whose C function the runtime does not find."""
    try:
        yield
    except ValueError as error:
        for symbol, name in symbols.items():
            if f"symbol '{symbol}'" in str(error):
                raise PluginError(
                    f"the registrar {name!r} names the C function {symbol!r}, which no loaded "
                    "library has; load its library with ctypes.CDLL(path, ctypes.RTLD_GLOBAL)"
                ) from error
        raise
