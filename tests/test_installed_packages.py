"""Packages as users install them: ours without TensorFlow, and a stranger's plugin beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.2.3"
[project.entry-points.llm_tflite]
{module} = "{module}"
[tool.hatch.build.targets.wheel]
include = ["{module}.py"]
"""

CONVERT = """
import sys
import llm_tflite as lt
from llm_tflite.demo import shapes
converter = lt.Converter(
    shapes.tiny_gpt2(), quantizer="int6", context_length=64, prefill_lengths=(8,)
)
print(converter.convert(sys.argv[1]).manifest.quantization)
"""


def _install(folder: Path, site: Path, name: str, code: str) -> None:
    module = name.replace("-", "_")
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name, module=module))
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(folder)], check=True, capture_output=True)


def _run(*arguments: str, site: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_strangers_strategy_converts_beside_a_broken_plugin(tmp_path: Path) -> None:
    (example,) = (
        block.split("```")[0]
        for block in (ROOT / "docs/hooks.md").read_text().split("```python\n")[1:]
    )
    site = tmp_path / "site"
    _install(tmp_path / "good", site, "llm-tflite-int6", example)
    _install(tmp_path / "bad", site, "llm-tflite-broken", "import a_package_that_is_missing")

    listed = json.loads(_run("-m", "llm_tflite", "plugins", "--json", site=site))["plugins"]
    plugins = {plugin["distribution"]: plugin for plugin in listed}
    assert plugins["llm-tflite-int6"]["provides"] == {"quantizers": ["int6"]}
    assert plugins["llm-tflite-int6"]["version"] == "1.2.3"
    assert "a_package_that_is_missing" in plugins["llm-tflite-broken"]["error"]
    assert "int4" in plugins["llm-tflite"]["provides"]["quantizers"]

    path = tmp_path / "int6.litertlm"
    printed = _run("-c", CONVERT, str(path), site=site)
    assert "strategy='int6'" in printed
    assert "'levels': 63" in printed
    answer = _run(
        *("-m", "llm_tflite", "generate", str(path), "5 17 33", "--tokens", "--json"),
        *("--max-new-tokens", "4"),
        site=site,
    )
    assert len(json.loads(answer)["token_ids"]) == 4


@pytest.mark.slow
def test_the_interpreter_runs_where_only_this_package_is_installed(
    litertlm_path: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    python = str(tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin") / "python")
    subprocess.run([python, "-m", "pip", "install", "-q", str(ROOT)], check=True)
    code = """
        import importlib.util, sys
        assert importlib.util.find_spec("tensorflow") is None
        import llm_tflite as lt
        with lt.Interpreter(sys.argv[1]) as interpreter:
            print(len(interpreter.generate("Once upon a time", max_new_tokens=8).token_ids))
        try:
            lt.Converter(None)
        except lt.LLMTFLiteError as error:
            print(error)
    """
    result = subprocess.run(
        [python, "-c", textwrap.dedent(code), str(litertlm_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    tokens, message = result.stdout.strip().splitlines()
    assert int(tokens) == 8
    assert "llm-tflite[convert]" in message
