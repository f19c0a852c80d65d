"""The string form where it runs: TensorFlow 2.18.1, which goes with an older KerasHub.

The environment is the one of ``make bench-codelab``. Everything in it is a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_generate_layout import PROMPTS
from text_operations import wordpiece

ROOT = Path(__file__).parent.parent
PYTHON = ROOT / ".codelab-venv" / "bin" / "python"
LENGTH = 64

pytestmark = pytest.mark.slow

MODEL = """
import json, sys
import llm_tflite as lt
from llm_tflite.demo.material import GPT2_MERGES, GPT2_VOCABULARY, fetch
from llm_tflite.demo.shapes import tiny_gpt2
fetch(GPT2_MERGES)
model = tiny_gpt2(7, vocabulary=fetch(GPT2_VOCABULARY).parent)
model.compile(sampler="greedy")
"""

CONVERT = """
lt.Converter(
    model, layout="generate", quantizer=sys.argv[2], max_length=int(sys.argv[3]), text="string"
).convert(sys.argv[1])
print(json.dumps(lt.Artifact.open(sys.argv[1]).manifest.check["strings"]))
"""

KERAS_TEXTS = """
length = int(sys.argv[1])
print(json.dumps([model.generate(prompt, max_length=length) for prompt in json.load(sys.stdin)]))
"""

# As the codelab runs its file: TensorFlow's interpreter, an array of the prompt, the signature.
PLAIN_TEXTS = """
import json, sys
import numpy as np
import tensorflow as tf
runner = tf.lite.Interpreter(model_path=sys.argv[1]).get_signature_runner("serving_default")
texts = []
for prompt in json.load(sys.stdin):
    text = runner(prompt=np.array([prompt.encode()], dtype=object))["text"]
    assert text.shape == ()
    texts.append(text.item().decode("utf-8", "replace"))
print(json.dumps(texts))
"""

INTERPRETER = """
import json, sys
import numpy as np
import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.text_runtime import string_array
with lt.Interpreter(sys.argv[1], threads=1) as interpreter:
    answer = interpreter.generate("I'm enjoying a")
    signature = interpreter.signatures["serving_default"]
    run = interpreter.run("serving_default", prompt=string_array(b"I'm enjoying a"))
    refused = []
    for wrong in (
        "text", np.array("text"), np.array(b"text", object), np.array([b"text"]),
        np.array(["text"], object), np.array([b"a", b"b"], object),
    ):
        try:
            interpreter.run("serving_default", prompt=wrong)
        except errors.InvalidOptionError:
            refused.append(True)
print(json.dumps({
    "text": answer.text,
    "tokens": len(answer.token_ids) + answer.prompt_tokens,
    "run": run["text"].item().decode("utf-8", "replace"),
    "outputs": list(run),
    "shape": signature.inputs["prompt"].shape,
    "dtype": signature.inputs["prompt"].dtype,
    "refused": len(refused),
}))
"""

# A stranger's file: operations of TensorFlow Text, and TensorFlow's own beside them.
OPEN = """
import json, sys
import llm_tflite as lt
from text_operations import TEXTS, wordpiece
model, expected = wordpiece(lower=True)
names = [operation.name for operation in lt.inspect(sys.argv[1]).custom_operations]
found = [
    lt.open_interpreter(source).get_signature_runner()(text=TEXTS)["ids"].tolist()
    for source in (sys.argv[1], model)
]
print(json.dumps({"names": names, "found": found, "expected": expected.tolist()}))
"""


@pytest.fixture(scope="module", autouse=True)
def environment() -> None:
    """Make the environment where there is none, and install this package in it."""
    subprocess.run(["make", ".codelab-venv/.ready"], cwd=ROOT, check=True, capture_output=True)


def run(code: str, *arguments: Any, prompts: list[str] | None = None) -> Any:
    """Run code in the environment; returns what its last line says."""
    child = subprocess.run(
        [PYTHON, "-c", code, *map(str, arguments)],
        input=json.dumps(prompts),
        capture_output=True,
        text=True,
        check=False,
        env=os.environ
        | {
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")]),
        },
        timeout=900,
    )
    assert child.returncode == 0, child.stderr[-3000:]
    return json.loads(child.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def model() -> Any:
    """The model of ``MODEL``, in this environment."""
    from material import gpt2_vocabulary

    from llm_tflite.demo.shapes import tiny_gpt2

    return tiny_gpt2(7, vocabulary=gpt2_vocabulary()[0].parent)


@pytest.fixture(scope="module")
def texts_of_keras() -> list[str]:
    texts: list[str] = run(MODEL + KERAS_TEXTS, LENGTH, prompts=PROMPTS)
    return texts


def convert_here(model: Any, path: Path, quantizer: str) -> Path:
    import llm_tflite as lt

    converter = lt.Converter(
        model, layout="generate", quantizer=quantizer, max_length=LENGTH, text="string"
    )
    converter.convert(path)
    return path


def test_both_environments_draw_the_same_weights(model: Any) -> None:
    code = (
        MODEL
        + "\nprint(json.dumps([float(abs(v.numpy()).sum()) for v in model.trainable_variables]))"
    )
    there = run(code)
    here = [float(abs(v.numpy()).sum()) for v in model.trainable_variables]
    assert np.allclose(there, here, rtol=1e-6)


def test_a_file_from_here_gives_the_text_of_keras_there(
    model: Any, texts_of_keras: list[str], tmp_path: Path
) -> None:
    path = convert_here(model, tmp_path / "m.tflite", "none")
    assert run(PLAIN_TEXTS, path, prompts=PROMPTS) == texts_of_keras


def test_a_file_from_there_gives_the_text_of_keras_there(
    texts_of_keras: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "m.tflite"
    assert run(MODEL + CONVERT, path, "none", LENGTH) == "run"
    assert run(PLAIN_TEXTS, path, prompts=PROMPTS) == texts_of_keras


@pytest.mark.parametrize("quantizer", ["dynamic_range", "weight_only_int8"])
def test_eight_bits_run_there(model: Any, tmp_path: Path, quantizer: str) -> None:
    path = convert_here(model, tmp_path / "m.tflite", quantizer)
    texts = run(PLAIN_TEXTS, path, prompts=PROMPTS)
    fitting = [i for i, prompt in enumerate(PROMPTS) if prompt and len(prompt) < LENGTH]
    assert all(texts[i].startswith(PROMPTS[i].split("<")[0]) for i in fitting)
    assert all(len(texts[i]) > len(PROMPTS[i]) for i in fitting)


def test_the_interpreter_runs_it_there(
    model: Any, texts_of_keras: list[str], tmp_path: Path
) -> None:
    path = convert_here(model, tmp_path / "m.tflite", "none")
    found = run(INTERPRETER, path)
    assert "I'm enjoying a" + found["text"] == texts_of_keras[0] == found["run"]
    assert (found["tokens"], found["outputs"]) == (LENGTH, ["text"])
    assert (found["shape"], found["dtype"], found["refused"]) == ([1], "object", 6)


def test_texts_and_flex_in_one_file_of_a_stranger_run_there(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(wordpiece(lower=True)[0])
    result = run(OPEN, path)
    assert result["names"] == [
        "FastWordpieceTokenizeWithOffsets",
        "FlexRaggedTensorToTensor",
        "FlexStringLower",
    ]
    assert result["found"] == [result["expected"]] * 2
    assert np.shape(result["expected"]) == (2, 5)
