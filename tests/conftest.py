"""One tiny GPT-2 with the real vocabulary, converted once, and variants of its artifact."""

from __future__ import annotations

import dataclasses
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from material import gpt2_vocabulary

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CONTEXT = 64
PREFILL_LENGTHS = (4, 16)

Variant = Callable[..., Path]
Command = Callable[..., "tuple[int, str, str]"]


def pytest_collection_finish() -> None:
    """Leave what the imports made out of every collection: half a second of each conversion."""
    import keras_hub  # noqa: F401

    gc.collect()
    gc.freeze()


def tiny_gpt2(*, seed: int = 0) -> Any:
    """A ``GPT2CausalLM`` whose random weights are large enough for it to have opinions."""
    import keras_hub

    vocabulary, merges = gpt2_vocabulary()
    backbone = keras_hub.models.GPT2Backbone(
        vocabulary_size=50257,
        num_layers=2,
        num_heads=2,
        hidden_dim=32,
        intermediate_dim=64,
        max_sequence_length=CONTEXT,
        dropout=0.0,
    )
    random = np.random.default_rng(seed)
    for weight in backbone.weights:
        if len(weight.shape) >= 2:
            weight.assign(random.normal(0, 0.3, weight.shape).astype(np.float32))
    tokenizer = keras_hub.models.GPT2Tokenizer(vocabulary=str(vocabulary), merges=str(merges))
    preprocessor = keras_hub.models.GPT2CausalLMPreprocessor(tokenizer, sequence_length=CONTEXT)
    return keras_hub.models.GPT2CausalLM(backbone, preprocessor)


def convert(model: Any, path: Path) -> Path:
    from llm_tflite.converter import Converter

    converter = Converter(
        model, quantizer="none", context_length=CONTEXT, prefill_lengths=PREFILL_LENGTHS
    )
    converter.convert(path)
    return path


@pytest.fixture(scope="session")
def gpt2() -> Any:
    return tiny_gpt2()


@pytest.fixture(scope="session")
def litertlm_path(gpt2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(gpt2, tmp_path_factory.mktemp("artifact") / "tiny.litertlm")


@pytest.fixture(scope="session")
def tflite_path(litertlm_path: Path) -> Path:
    from llm_tflite.artifact import Artifact

    path = litertlm_path.with_suffix(".tflite")
    Artifact.open(litertlm_path).save_as(path)
    return path


@pytest.fixture(scope="session")
def variant(gpt2: Any, litertlm_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Variant:
    """Writes the same model again with other facts in its manifest."""
    from llm_tflite.artifact import Artifact, write_artifact
    from llm_tflite.tokenizer_assets import asset_from_keras

    def write(*, tokenizer: bool = True, **changes: Any) -> Path:
        folder = tmp_path_factory.mktemp("variant")
        artifact = Artifact.open(litertlm_path)
        core = folder / "core.tflite"
        core.write_bytes(artifact.read_model())
        manifest = dataclasses.replace(artifact.manifest, **changes)
        data = asset_from_keras(gpt2.preprocessor).data
        if not tokenizer:
            manifest, data = dataclasses.replace(manifest, tokenizer=None), None
        write_artifact(folder / "variant.tflite", core, data, manifest)
        return folder / "variant.tflite"

    return write


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs one command; returns its exit code, standard output and standard error."""

    def call(*arguments: object) -> tuple[int, str, str]:
        from llm_tflite.cli import run

        code = run([str(argument) for argument in arguments])
        return code, *capsys.readouterr()

    return call
