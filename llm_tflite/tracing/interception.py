"""Let views answer ``keras.ops`` calls while a model is traced."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import keras

# Model code reads these as attributes of either module, so replacing both reaches every caller.
_NAMESPACES = (keras.ops, keras.src.ops)


@contextlib.contextmanager
def intercept(*views: Any) -> Iterator[None]:
    """Route ``keras.ops`` functions through the views' methods of the same name.

    A method is called as ``method(original, *args, **kwargs)`` and either answers or returns
    ``original(*args, **kwargs)``; with several views, each one's original is the one before it.
    Not safe while another thread runs Keras code: the replacement is global until the block ends.
    """
    saved: list[tuple[Any, str, Any]] = []
    try:
        for view in views:
            for name in view.intercepted:
                replacement: Any = None
                for namespace in _NAMESPACES:
                    original = getattr(namespace, name)
                    saved.append((namespace, name, original))
                    if replacement is None:
                        replacement = functools.partial(getattr(view, name), original)
                    setattr(namespace, name, replacement)
        yield
    finally:
        for namespace, name, original in reversed(saved):
            setattr(namespace, name, original)
