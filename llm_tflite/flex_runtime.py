"""Opens models with TensorFlow's operations in them, where a TensorFlow can run these."""

from __future__ import annotations

import warnings
from typing import Any

from .errors import IncompatibleArtifactError

_ADVICE = (
    "this file takes and gives strings, which needs the Flex delegate; {found}. tensorflow 2.18.1 "
    "is the last release with it (pip install tensorflow==2.18.1, in an environment of its own). "
    "A file converted with text='bytes' needs no delegate"
)


def open_with_flex(**arguments: Any) -> Any:
    """Return TensorFlow's own interpreter, with memory for its tensors.

    Args:
        **arguments: Those of ``tf.lite.Interpreter``.

    Raises:
        IncompatibleArtifactError: There is no TensorFlow here, or one without the Flex delegate.
    """
    try:
        import tensorflow as tf

        create = tf.lite.Interpreter
    except (ImportError, AttributeError) as error:  # it is to be removed from TensorFlow
        raise IncompatibleArtifactError(
            _ADVICE.format(found="there is no TensorFlow with an interpreter here")
        ) from error
    with warnings.catch_warnings():
        # It says that another package replaces it, which has no Flex delegate.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = create(**arguments)
    try:
        interpreter.allocate_tensors()
    except RuntimeError as error:
        # No version tells: builds of one version exist with and without the delegate.
        if "Select TensorFlow op" not in str(error):
            raise
        found = f"TensorFlow {tf.__version__} is installed and comes without it"
        raise IncompatibleArtifactError(_ADVICE.format(found=found)) from error
    return interpreter
