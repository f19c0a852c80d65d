"""Models with operations of TensorFlow Text, and a registrar of an operation of its own."""

from __future__ import annotations

import ctypes
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

VOCABULARY = ["[UNK]", "the", "quick", "brown", "fox", "##es", "un", "##known", "##s"]
TEXTS = np.array([b"the quick  brown foxes", "unknown 你 the".encode()], dtype=object)
TO_TENSOR = "RaggedTensorToTensor"
OF_A_STRANGER = "Stranger>RaggedToTensor"


def wordpiece(*, lower: bool = False) -> tuple[bytes, np.ndarray]:
    """A model that turns texts into token ids, and those of ``TEXTS`` as TensorFlow has them.

    Args:
        lower: Begin with an operation that needs the Flex delegate.
    """
    import tensorflow as tf
    import tensorflow_text

    tokenizer = tensorflow_text.FastWordpieceTokenizer(
        VOCABULARY, token_out_type=tf.int64, support_detokenization=False
    )

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def tokenize(text: Any) -> dict[str, Any]:
        text = tf.strings.lower(text) if lower else text
        return {"ids": tokenizer.tokenize(text).to_tensor(-1)}

    module = tf.Module()
    module.tokenize = tokenize
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"serving_default": tokenize})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.allow_custom_ops = True
        if lower:
            converter.target_spec.supported_ops = [
                tf.lite.OpsSet.TFLITE_BUILTINS,
                tf.lite.OpsSet.SELECT_TF_OPS,
            ]
        model: bytes = converter.convert()
    return model, tokenize(tf.constant(TEXTS))["ids"].numpy()


def renamed(model: bytes, **names: str) -> bytes:
    """The same model, with other names for its custom operations."""
    from llm_tflite.flatbuffer.model import pack, parse

    parsed = parse(model)
    for code in parsed.operatorCodes:
        if code.customCode and (old := bytes(code.customCode).decode()) in names:
            code.customCode = names[old].encode()
    return pack(parsed)


class Stranger:
    """Registers a kernel of tensorflow-text under a name of its own, from its compiled library."""

    name = "stranger"
    operations = frozenset({OF_A_STRANGER})

    def describe(self) -> dict[str, str]:
        return {"package": "a-stranger"}

    def registerers(self) -> Sequence[str | Callable[[int], object]]:
        library = tf_text_library()
        kernel = library["_ZN6tflite3ops6custom4text32Register_RAGGED_TENSOR_TO_TENSOREv"]
        kernel.restype = ctypes.c_void_p
        add = library["_ZN6tflite17MutableOpResolver9AddCustomEPKcPK18TfLiteRegistrationi"]
        add.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_int]
        add.restype = None
        return [lambda resolver: add(resolver, OF_A_STRANGER.encode(), kernel(), 1)]


def tf_text_library() -> ctypes.CDLL:
    """The library with tensorflow-text's kernels, its C functions visible to everybody."""
    from tensorflow_text.core.pybinds import tflite_registrar

    path = Path(tflite_registrar.__file__).with_name("libpybinds_library_common.so")
    return ctypes.CDLL(str(path), ctypes.RTLD_GLOBAL)
