"""Converts GPT-2 as TensorFlow's codelab does: ``python -m benchmarks.codelab_recipe FILE``.

The codelab "Autocomplete" wraps ``generate`` of KerasNLP, its tokenizer included, in a
``tf.function`` and converts that with TensorFlow's own operations allowed. Two things differ, since
KerasHub changed after it was written: the tokenizer's TensorFlow form is called by name, as
``generate`` itself leaves the graph now, and tokens are chosen greedily, as the default sampler's
random state does not convert.

Runs in the environment of ``codelab_requirements.txt``.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from llm_tflite.demo.material import GPT2_MERGES, GPT2_VOCABULARY, fetch
from llm_tflite.demo.shapes import gpt2_124m

from .codelab_workload import MAX_LENGTH


def convert(model: Any, max_length: int) -> bytes:
    """Return the ``.tflite`` file of the codelab, with its dynamic-range quantization."""
    model.compile(sampler="greedy", jit_compile=False)
    function = _generate_function(model, max_length).get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], _tracked(model))
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    converter.allow_custom_ops = True
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.experimental_select_user_tf_ops = ["UnsortedSegmentJoin", "UpperBound"]
    converter._experimental_guarantee_all_funcs_one_use = True
    return bytes(converter.convert())


def _generate_function(model: Any, max_length: int) -> Any:
    tokenizer = model.preprocessor.tokenizer

    @tf.function(input_signature=[tf.TensorSpec([], tf.string, name="prompt")])
    def generate(prompt: Any) -> dict[str, Any]:
        inputs = model.preprocessor._generate_preprocess_tf(
            prompt[tf.newaxis], sequence_length=max_length
        )
        outputs = model.generate_step(inputs, stop_token_ids=[tokenizer.end_token_id])
        tokens, kept = outputs["token_ids"], tf.cast(outputs["padding_mask"], tf.bool)
        for special in sorted(set(tokenizer.special_token_ids)):
            kept = kept & tf.not_equal(tokens, special)
        return {"text": tokenizer._detokenize_tf(tf.ragged.boolean_mask(tokens, kept))[0]}

    return generate


def _tracked(model: Any) -> tf.Module:
    """What the converter must find to freeze: Keras' variables and the tokenizer's tables."""
    module = tf.Module()
    module.model = model
    module.variables_ = [variable.value for variable in model.variables]
    tables = (tf.lookup.StaticHashTable, tf.lookup.experimental.MutableHashTable)
    module.tables = [found for found in gc.get_objects() if isinstance(found, tables)]
    return module


if __name__ == "__main__":
    fetch(GPT2_MERGES)
    gpt2 = gpt2_124m(vocabulary=fetch(GPT2_VOCABULARY).parent)
    Path(sys.argv[1]).write_bytes(convert(gpt2, MAX_LENGTH))
