"""The codelab as a script and as a notebook: one is made from the other, and both run."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import llm_tflite as lt

EXAMPLES = Path(__file__).parent.parent / "examples"


def check_files(folder: Path) -> None:
    """What every run leaves behind, whatever the model."""
    files = {path.stem.removeprefix("autocomplete-"): path for path in folder.glob("*.tflite")}
    assert {"autocomplete", "none", "float16", "dynamic_range"} <= set(files)
    assert files["autocomplete"].read_bytes() == files["dynamic_range"].read_bytes()
    sizes = [files[name].stat().st_size for name in ("dynamic_range", "float16", "none")]
    assert sizes == sorted(sizes)
    for path in files.values():
        lt.Artifact.open(path).verify()


def test_the_notebook_is_the_script_and_has_no_outputs() -> None:
    notebook = runpy.run_path(str(EXAMPLES / "notebook.py"))["notebook"]
    written = (EXAMPLES / "codelab.ipynb").read_text(encoding="utf-8")
    script = (EXAMPLES / "codelab.py").read_text(encoding="utf-8")
    assert written == notebook(script), "run: python examples/notebook.py"


def test_every_cell_of_the_notebook_runs(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "codelab.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=300, resources=resources).execute()
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    printed = "".join(output.text for output in outputs if output.get("name") == "stdout")
    errors = "".join(output.text for output in outputs if output.get("name") == "stderr")
    shown = [output.data["text/plain"] for output in outputs if "data" in output]

    assert "The same text as Keras: True" in printed
    has_full_integer = any("full_integer" in p.provides.get("quantizers", ()) for p in lt.plugins())
    assert ("No quantizer of this name" in printed) != has_full_integer
    if "Refused" in printed:
        assert "expected a share of 0.9 or more, found 0." in printed
    *bars, table = shown
    # One bar for each conversion, drawn in its place to the end, without what rich would need.
    assert len(bars) == 3 + has_full_integer
    assert all(bar.count("checking") == bar.count("writing") == 1 for bar in bars[:3])
    assert 'install "ipywidgets"' not in errors
    assert all(name in table for name in ("none", "dynamic_range", "float16"))
    check_files(tmp_path)


@pytest.mark.slow
def test_the_script_runs_on_a_real_model(tmp_path: Path) -> None:
    command = [sys.executable, str(EXAMPLES / "codelab.py"), "--model", "smollm2"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "Llama3CausalLM: 134,515,008 parameters" in done.stdout
    assert "The same text as Keras: True" in done.stdout
    check_files(tmp_path)
