"""Write ``codelab.ipynb`` from ``codelab.py``, which is the one that is edited.

    python examples/notebook.py

The script is in the percent format, which editors run cell by cell. ``# %%`` begins a cell of
code, ``# %% [markdown]`` one of text in comments, and ``# %% [script]`` code that the notebook does
without.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

_MARK = re.compile(r"^# %%(.*)\n", re.MULTILINE)


def notebook(script: str) -> str:
    """The notebook of a script, without outputs."""
    _, *parts = _MARK.split(script)
    pairs = zip(parts[::2], parts[1::2], strict=True)
    cells = [_cell(kind.strip(), text) for kind, text in pairs if kind.strip() != "[script]"]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    document = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 4}
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def _cell(kind: str, text: str) -> dict[str, Any]:
    lines = text.strip("\n").splitlines(keepends=True)
    if kind == "[markdown]":
        source = [line.removeprefix("#").removeprefix(" ") for line in lines]
        return {"cell_type": "markdown", "metadata": {}, "source": source}
    return {
        "cell_type": "code",
        "execution_count": None,
        "metadata": {},
        "outputs": [],
        "source": lines,
    }


if __name__ == "__main__":
    here = Path(__file__).parent
    text = notebook((here / "codelab.py").read_text(encoding="utf-8"))
    (here / "codelab.ipynb").write_text(text, encoding="utf-8")
