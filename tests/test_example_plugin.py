"""The plugin in ``examples/plugins``: a package of its own, beside others that are broken."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from installation import install_folder, install_module
from material import smollm2_gguf

ROOT = Path(__file__).parent.parent
PLUGIN = Path("examples/plugins/llm_tflite_hqq")

HOOK = """
from llm_tflite import hookimpl
@hookimpl
def llm_tflite_register_quantizers({arguments}):
    raise RuntimeError("bad day")
"""
HOSTILE = {
    "hostile-import": ("import a_package_that_is_missing", "No module named 'a_package_that_is"),
    "hostile-hook": (HOOK.format(arguments="register"), "RuntimeError: bad day"),
    "hostile-signature": (HOOK.format(arguments="register, options"), "{'options'} are declared"),
}


def install_hostile(folder: Path, site: Path) -> None:
    for name, (code, _) in HOSTILE.items():
        install_module(folder / name, site, name, code)


def check_listed(page: str) -> None:
    """The plugin is listed with what it offers, and each of the others with its fault."""
    plugins = {plugin["distribution"]: plugin for plugin in json.loads(page)["plugins"]}
    assert plugins["llm-tflite-hqq"]["provides"] == {"quantizers": ["hqq4"]}
    assert plugins["llm-tflite-hqq"]["error"] is None
    for name, (_, complaint) in HOSTILE.items():
        assert complaint in plugins[name]["error"]


def run(*command: str | Path, **environment: str) -> str:
    result = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


UNKNOWN = """
import llm_tflite as lt
from llm_tflite.testing import tiny_model
try:
    lt.Converter(tiny_model(), quantizer="hqq5")
except lt.LLMTFLiteError as error:
    print(error)
"""


def test_it_passes_its_own_tests_and_works_beside_three_that_are_broken(tmp_path: Path) -> None:
    site = tmp_path / "site"
    install_folder(ROOT / PLUGIN, site)
    install_hostile(tmp_path, site)
    path = os.pathsep.join([str(site), str(ROOT)])
    check_listed(run(sys.executable, "-m", "llm_tflite", "plugins", "--json", PYTHONPATH=path))
    assert "passed" in run(sys.executable, "-m", "pytest", ROOT / PLUGIN, PYTHONPATH=path)
    message = run(sys.executable, "-c", UNKNOWN, PYTHONPATH=path)
    assert "hqq4" in message
    for name, (_, complaint) in HOSTILE.items():
        assert name in message
        assert complaint in message


COMPARE = """
import sys
import llm_tflite as lt
from llm_tflite.demo.gguf_llama import load_gguf_llama
assert sys.prefix in lt.__file__, lt.__file__
model = load_gguf_llama(sys.argv[1])
lengths = {"context_length": 64, "prefill_lengths": (8, 32)}
lt.Converter(model, quantizer="hqq4", **lengths).convert("smollm2.litertlm")
with lt.Interpreter("smollm2.litertlm") as interpreter:
    print(interpreter.generate("The capital of France is", max_new_tokens=4).text)
texts = ["The river runs past the old mill.", "Water boils at a hundred degrees."]
comparison = lt.compare(
    model, ["int4", "hqq4"], text=texts, greedy_texts=2, greedy_tokens=16, runs=1, **lengths
)
assert not comparison.errors, comparison.errors
print(comparison.to_markdown())
"""


@pytest.mark.slow
def test_its_page_is_followed_word_by_word_where_both_are_installed(tmp_path: Path) -> None:
    """TensorFlow and the rest are those of this environment; llm-tflite and the plugin are not."""
    folder = tmp_path / "environment"
    venv.create(folder, with_pip=True)
    binaries = folder / ("Scripts" if os.name == "nt" else "bin")
    python = binaries / "python"
    run(python, "-m", "pip", "install", "-q", "--no-deps", ROOT, PYTHONPATH="")
    own = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (own / "others.pth").write_text(sysconfig.get_path("purelib"))
    checkout = tmp_path / "checkout"
    shutil.copytree(ROOT / PLUGIN, checkout / PLUGIN, ignore=shutil.ignore_patterns("__pycache__"))
    install_hostile(tmp_path, own)

    def follow(*command: str | Path) -> str:
        path = os.pathsep.join([str(binaries), os.environ["PATH"]])
        words = [str(word) for word in command]
        result = subprocess.run(
            words,
            capture_output=True,
            text=True,
            env=os.environ | {"PATH": path, "PYTHONPATH": ""},
            cwd=checkout,
            check=False,
        )
        assert result.returncode == 0, f"{words}: {result.stdout}{result.stderr}"
        return result.stdout

    page = (ROOT / PLUGIN / "README.md").read_text()
    commands = "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL)).splitlines()
    assert commands.pop(0) == "python -m pip install '.[convert]'"
    printed = [follow("sh", "-c", command) for command in commands]
    assert "hqq (llm-tflite-hqq 0.1.0)\n  quantizers: hqq4" in printed[1]
    assert "passed" in printed[-1]
    check_listed(follow("llm-tflite", "plugins", "--json"))
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert "| hqq4 |" in follow("python", "-c", code)

    report = follow("python", "-c", COMPARE, smollm2_gguf())
    assert "Paris" in report
    assert "| int4 |" in report
    assert "| hqq4 |" in report
