"""A file shows some of its signatures for a while, and is then what it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.demo import shapes
from llm_tflite.flatbuffer.selection import only_signatures
from llm_tflite.runtime import RuntimeModel


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("selection") / "m.tflite"
    lt.Converter(shapes.tiny_gpt2(), context_length=64, prefill_lengths=(4, 8)).convert(path)
    return path


def run(model: RuntimeModel, signature: str) -> dict[str, Any]:
    specs = model.signatures[signature].inputs
    random = np.random.default_rng(0)
    return model.call(
        signature,
        {
            name: random.normal(size=spec.shape).astype(spec.dtype)
            if spec.dtype == "float32"
            else np.arange(np.prod(spec.shape), dtype=spec.dtype).reshape(spec.shape)
            for name, spec in specs.items()
        },
    )


@pytest.mark.parametrize(
    "names", [("decode",), ("prefill_8",), ("prefill_4", "prefill_8"), ("decode", "prefill_8")]
)
def test_the_signatures_that_are_left_say_the_same(path: Path, names: tuple[str, ...]) -> None:
    whole = path.read_bytes()
    model = RuntimeModel(str(path))
    expected = {name: run(model, name) for name in names}
    model.close()
    with only_signatures(path, names):
        assert path.read_bytes() != whole
        model = RuntimeModel(str(path))
        assert set(model.signatures) == set(names)
        for name in names:
            found = run(model, name)
            assert found.keys() == expected[name].keys()
            assert all(np.array_equal(found[key], expected[name][key]) for key in found)
        model.close()
    assert path.read_bytes() == whole


def test_the_file_is_restored_when_the_block_fails(path: Path) -> None:
    whole = path.read_bytes()
    with pytest.raises(ZeroDivisionError), only_signatures(path, ["decode"]):
        raise ZeroDivisionError
    assert path.read_bytes() == whole


def test_a_signature_that_is_not_there_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    names = ["decode", "prefill_16"]
    with pytest.raises(errors.ConversionError, match="prefill_16"), only_signatures(path, names):
        pass
    assert path.read_bytes() == whole
