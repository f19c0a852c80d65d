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
import text_operations
from hook_examples import example
from installation import install_module

ROOT = Path(__file__).parent.parent

CONVERT = """
import sys
import llm_tflite as lt
from llm_tflite.demo import shapes
converter = lt.Converter(
    shapes.tiny_gpt2(), quantizer="int6", context_length=64, prefill_lengths=(8,)
)
print(converter.convert(sys.argv[1]).manifest.quantization)
"""


def _run(*arguments: str, site: Path) -> str:
    environment = os.environ | {"PYTHONPATH": str(site)}
    result = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_a_strangers_strategy_converts_beside_a_broken_plugin(tmp_path: Path) -> None:
    site = tmp_path / "site"
    int6 = example("llm_tflite_register_quantizers")
    install_module(tmp_path / "good", site, "llm-tflite-int6", int6)
    install_module(tmp_path / "bad", site, "llm-tflite-broken", "import a_package_that_is_missing")

    listed = json.loads(_run("-m", "llm_tflite", "plugins", "--json", site=site))["plugins"]
    plugins = {plugin["distribution"]: plugin for plugin in listed}
    assert plugins["llm-tflite-int6"]["provides"] == {"quantizers": ["int6"]}
    assert plugins["llm-tflite-int6"]["version"] == "1.2.3"
    assert "a_package_that_is_missing" in plugins["llm-tflite-broken"]["error"]
    assert "int4" in listed[0]["provides"]["quantizers"]

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


OPEN = """
import json, sys
import llm_tflite as lt
from text_operations import TEXTS
runner = lt.open_interpreter(sys.argv[1]).get_signature_runner()
print(json.dumps(runner(text=TEXTS)["ids"].tolist()))
"""

REGISTER = """
from llm_tflite import hookimpl
@hookimpl
def llm_tflite_register_custom_ops(register):
    register(Stranger())
"""


def test_a_strangers_registrar_runs_a_model_beside_one_whose_library_is_missing(
    tmp_path: Path,
) -> None:
    site = tmp_path / "site"
    times_two = example("llm_tflite_register_custom_ops")
    stranger = Path(text_operations.__file__).read_text() + REGISTER
    install_module(tmp_path / "times", site, "llm-tflite-times-two", times_two)
    install_module(tmp_path / "stranger", site, "llm-tflite-stranger", stranger)
    model, expected = text_operations.wordpiece()
    names = {text_operations.TO_TENSOR: text_operations.OF_A_STRANGER}
    path = tmp_path / "wordpiece.tflite"
    path.write_bytes(text_operations.renamed(model, **names))

    listed = json.loads(_run("-m", "llm_tflite", "plugins", "--json", site=site))["plugins"]
    provided = {plugin["distribution"]: plugin["provides"] for plugin in listed}
    assert provided["llm-tflite-stranger"] == {"registrars": ["stranger"]}
    assert provided["llm-tflite-times-two"] == {"registrars": ["times_two"]}

    page = _run("-m", "llm_tflite", "inspect", str(path), site=site)
    assert "Stranger>RaggedToTensor: registrar stranger, package a-stranger" in page
    assert "FastWordpieceTokenizeWithOffsets: registrar tf_text" in page

    (site / "text_operations.py").write_bytes(Path(text_operations.__file__).read_bytes())
    assert json.loads(_run("-c", OPEN, str(path), site=site)) == expected.tolist()


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
