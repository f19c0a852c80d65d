"""The ``generate`` layout at its real size, in an environment that has a runtime and nothing else.

What is installed there is NumPy and ai-edge-litert: no TensorFlow, no tokenizer, and not this
package.
"""

from __future__ import annotations

import os
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest
from conftest import CONTEXT
from material import gpt2_vocabulary, smollm2_gguf
from test_generate_layout import PROMPTS, run_plainly

import llm_tflite as lt

ROOT = Path(__file__).parent.parent
LENGTH = CONTEXT  # what the prompts were written for

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def plain_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("plain") / "venv"
    venv.create(folder, with_pip=True)
    python = str(folder / ("Scripts" if os.name == "nt" else "bin") / "python")
    pip = [python, "-I", "-m", "pip", "--disable-pip-version-check"]
    packages = ["-c", str(ROOT / "constraints.txt"), "numpy", "ai-edge-litert"]
    subprocess.run([*pip, "install", "-q", *packages], check=True, timeout=300)
    listed = subprocess.run(
        [*pip, "list", "--format=freeze"], check=True, capture_output=True, text=True
    ).stdout.lower()
    assert "ai-edge-litert==" in listed
    for absent in ("tensorflow", "keras", "llm-tflite", "tokenizers", "sentencepiece"):
        assert absent not in listed
    return python


def convert(model: Any, path: Path, **options: Any) -> Path:
    lt.Converter(model, layout="generate", max_length=LENGTH, **options).convert(path)
    return path


def test_gpt2_of_real_size_writes_the_text_of_keras(plain_python: str, tmp_path: Path) -> None:
    from llm_tflite.demo.shapes import gpt2_124m

    model = gpt2_124m(vocabulary=gpt2_vocabulary()[0].parent)
    model.compile(sampler="greedy")
    path = convert(model, tmp_path / "autocomplete.tflite", quantizer="none")
    expected = [model.generate(prompt, max_length=LENGTH) for prompt in PROMPTS]
    assert run_plainly(path, PROMPTS, plain_python) == expected
    written = [text.removeprefix(prompt) for text, prompt in zip(expected, PROMPTS, strict=True)]
    assert sum(len(set(text)) > 10 for text in written) > len(PROMPTS) / 2


def test_smollm2_knows_the_capital_of_france(plain_python: str, tmp_path: Path) -> None:
    from llm_tflite.demo.gguf_llama import load_gguf_llama

    model = load_gguf_llama(smollm2_gguf())
    path = convert(model, tmp_path / "autocomplete.tflite", quantizer="dynamic_range")
    prompt = "The capital of France is"
    (text,) = run_plainly(path, [prompt], plain_python)
    assert text.startswith(f"{prompt} Paris")
