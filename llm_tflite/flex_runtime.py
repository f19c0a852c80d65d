"""Opens models with TensorFlow's operations in them, where a TensorFlow can run these."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from .errors import MissingOpsError
from .op_coverage import in_words


def open_with_flex(names: Sequence[str], **arguments: Any) -> Any:
    """Return TensorFlow's own interpreter, with memory for its tensors.

    Args:
        names: The operations that need Flex, for messages.
        **arguments: Those of TensorFlow's ``InterpreterWithCustomOps``.

    Raises:
        MissingOpsError: There is no TensorFlow here, or one without the Flex delegate.
    """
    try:
        import tensorflow as tf
        from tensorflow.lite.python.interpreter import InterpreterWithCustomOps
    except ImportError as error:  # it is to be removed from TensorFlow
        found = "there is no TensorFlow with an interpreter here"
        raise _missing(names, found) from error
    with warnings.catch_warnings():
        # It says that another package replaces it, which has no Flex delegate.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = InterpreterWithCustomOps(**arguments)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        # No version tells: builds of one version exist with and without the delegate.
        if "Select TensorFlow op" not in str(error):
            raise
        found = f"TensorFlow {tf.__version__} is installed and comes without it"
        raise _missing(names, found) from error
    return interpreter


def _missing(names: Sequence[str], found: str) -> MissingOpsError:
    return MissingOpsError(
        f"this model has operations of TensorFlow ({in_words(names)}), which need the Flex "
        f"delegate; {found}. tensorflow 2.18.1 is the last release with it (pip install "
        "tensorflow==2.18.1, in an environment of its own). A file of the 'generate' layout that "
        "was converted with text='bytes' needs no delegate",
        names,
    )
