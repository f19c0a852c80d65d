"""The string form of the ``generate`` layout, as far as a TensorFlow without Flex goes.

What runs it is tested in ``test_flex_environment.py``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONTEXT, tiny_gpt2
from test_generate_layout import PROMPTS, convert, run_plainly

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.text_runtime import string_array


@pytest.fixture(scope="module")
def model() -> Any:
    return tiny_gpt2(seed=3)


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(model, tmp_path_factory.mktemp("string") / "autocomplete.tflite", text="string")


@pytest.fixture(scope="module")
def bytes_path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(model, tmp_path_factory.mktemp("bytes") / "autocomplete.tflite")


def test_the_signature_takes_and_gives_a_string_with_two_flex_operations(path: Path) -> None:
    ((signature,),) = (found.signatures for found in lt.inspect(path).models)
    assert [(t.name, t.shape, t.dtype) for t in signature.inputs] == [("prompt", (), "string")]
    assert [(t.name, t.shape, t.dtype) for t in signature.outputs] == [("text", (), "string")]
    assert signature.custom_operators == {"FlexDecodeRaw": 1, "FlexReduceJoin": 1}


def test_the_manifest_says_what_the_check_could_not_run(path: Path) -> None:
    manifest = lt.Artifact.open(path).manifest
    assert manifest.text is not None
    assert manifest.text.form == "string"
    assert manifest.check is not None
    assert manifest.check["strings"] == "not run: no Flex delegate here"
    assert manifest.check["greedy"]["equal_tokens"] == manifest.check["greedy"]["tokens"]


def test_without_its_strings_it_is_the_file_of_the_bytes_form(
    path: Path, bytes_path: Path, tmp_path: Path
) -> None:
    from llm_tflite.conversion.bytes_twin import write_bytes_twin

    twin = tmp_path / "twin.tflite"
    with twin.open("w+b") as stream:
        write_bytes_twin(path, stream)
    ((of_twin,),) = (found.signatures for found in lt.inspect(twin).models)
    ((of_bytes,),) = (found.signatures for found in lt.inspect(bytes_path).models)
    assert of_twin == of_bytes
    assert run_plainly(twin, PROMPTS) == run_plainly(bytes_path, PROMPTS)


def test_the_same_model_gives_the_same_bytes(model: Any, path: Path, tmp_path: Path) -> None:
    again = convert(model, tmp_path / "again.tflite", text="string")
    assert again.read_bytes() == path.read_bytes()


def test_a_file_that_samples_keeps_its_noise(model: Any, tmp_path: Path) -> None:
    sampling = lt.Sampling(temperature=0.7, top_k=20)
    path = convert(model, tmp_path / "a.tflite", text="string", sampling=sampling)
    ((signature,),) = (found.signatures for found in lt.inspect(path).models)
    assert {t.name: t.shape for t in signature.inputs} == {"prompt": (), "noise": (CONTEXT,)}


def test_a_runtime_without_flex_is_refused_with_advice(path: Path) -> None:
    with pytest.raises(errors.MissingOpsError, match=r"tensorflow==2\.18\.1") as caught:
        lt.Interpreter(path)
    assert "comes without it" in str(caught.value)
    assert "text='bytes'" in str(caught.value)


def test_a_machine_without_tensorflow_is_told_the_same(path: Path) -> None:
    code = """
import json, sys
sys.modules["tensorflow"] = None
import llm_tflite as lt
try:
    lt.Interpreter(sys.argv[1])
except lt.LLMTFLiteError as error:
    print(json.dumps([type(error).__name__, str(error)]))
"""
    child = subprocess.run(
        [sys.executable, "-c", code, path], capture_output=True, text=True, check=True, timeout=120
    )
    name, message = json.loads(child.stdout)
    assert name == "MissingOpsError"
    assert "there is no TensorFlow" in message
    assert "tensorflow==2.18.1" in message


@pytest.mark.parametrize("quantizer", ["float16", "int4"])
def test_what_no_flex_runtime_reads_is_refused(model: Any, tmp_path: Path, quantizer: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match="use 'none', 'dynamic_range'"):
        convert(model, tmp_path / "m.tflite", text="string", quantizer=quantizer)
    assert not list(tmp_path.iterdir())


def test_no_other_operation_of_tensorflow_is_let_through() -> None:
    import tensorflow as tf

    from llm_tflite.tracing.skeleton import convert_function
    from llm_tflite.tracing.string_form import FLEX_OPERATIONS

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([1], tf.string)])
    def lower(text: Any) -> Any:
        return tf.io.decode_raw(tf.strings.lower(text), tf.uint8)

    with pytest.raises(errors.ConversionError, match="FlexReduceJoin only; found FlexStringLower"):
        convert_function(lower, custom=FLEX_OPERATIONS)


def test_a_cut_that_leaves_an_input_open_is_refused(path: Path) -> None:
    from llm_tflite.flatbuffer.cut import cut
    from llm_tflite.flatbuffer.model import parse

    model = parse(path.read_bytes())
    names = [bytes(tensor.name).decode() for tensor in model.subgraphs[0].tensors]
    with pytest.raises(errors.ConversionError, match="no other inputs"):
        cut(model, inputs={}, outputs={"text": names.index("text_bytes")}, shown=1)


@pytest.mark.parametrize("text", [b"", b"a", b"a\0", "你好 😀".encode()])
def test_a_string_is_one_object_of_bytes(text: bytes) -> None:
    array = string_array(text)
    assert (array.shape, array.dtype) == ((1,), np.dtype(object))
    assert array[0] == text
