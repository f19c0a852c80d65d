"""Packages of strangers, made on the spot and installed by pip."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

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


def install_module(folder: Path, site: Path, name: str, code: str) -> None:
    """Make a package of one module in ``folder`` and install it into ``site``."""
    module = name.replace("-", "_")
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PYPROJECT.format(name=name, module=module))
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    install_folder(folder, site)


def install_folder(folder: Path, site: Path) -> None:
    """Install a package without what it depends on, which is here."""
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", str(site), str(folder)], check=True, capture_output=True)
