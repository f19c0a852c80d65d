"""The floors of docs/architecture.md: a module imports from its own floor or from lower ones."""

from __future__ import annotations

import ast
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "llm_tflite"

FLOORS = {
    "_version": 0,
    "errors": 0,
    "text": 0,
    "options": 0,
    "sampling": 0,
    "files": 0,
    "progress": 0,
    "completion": 0,
    "cache_types": 0,
    "chunk_plan": 0,
    "signature_names": 0,
    "split_regexes": 0,
    "activations": 0,
    "context_window": 0,
    "plugin_object": 1,
    "quantization": 1,
    "op_registrar": 1,
    "text_filter": 1,
    "hookspecs": 1,
    "plugins": 1,
    "manifest": 1,
    "bundle": 1,
    "flatbuffer": 2,
    "tracing": 2,
    "layouts": 2,
    "quantizers": 2,
    "registrars": 2,
    "op_coverage": 2,
    "ops": 2,
    "runtime": 2,
    "flex_runtime": 2,
    "text_runtime": 2,
    "text_graph": 2,
    "tokenizers": 2,
    "longest_match": 2,
    "original_tokenization": 1,
    "tokenizer_assets": 2,
    "prompt": 2,
    "artifact": 3,
    "android": 3,
    "safety": 3,
    "conversion": 3,
    "converter": 3,
    "engine": 3,
    "cache_engine": 3,
    "text_engine": 3,
    "forward_engine": 3,
    "decoding": 3,
    "generation": 3,
    "interpreter": 3,
    "inspection": 3,
    "evaluation": 4,
    "cli": 4,
    "demo": 4,
    "testing": 4,
    "__main__": 5,
    "__init__": 5,
}

# Who may import the heavy packages; everything else must work without them.
HEAVY = {
    "tensorflow": {"tracing", "text_graph", "flex_runtime", "cli", "demo"},
    "keras": {"tracing", "cli", "demo"},
    "keras_hub": {"cli", "demo", "testing"},
    "litert_lm_builder": {"bundle"},
    "tensorflow_text": {"registrars"},
    "ai_edge_quantizer": {"quantizers"},
    "ai_edge_litert": {"runtime", "ops", "flatbuffer", "bundle"},
}

MODULES = sorted(PACKAGE.rglob("*.py"))


def _room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def _imports(path: Path) -> set[str]:
    """Absolute dotted names of everything that a module imports, however deep in it."""
    here = ["llm_tflite", *path.relative_to(PACKAGE).parts[:-1]]
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = here[: len(here) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_from_its_own_floor_or_below(path: Path) -> None:
    room = _room(path)
    assert room in FLOORS, f"give {room} a floor"
    for name in _imports(path):
        parts = name.split(".")
        if parts[0] == "llm_tflite" and len(parts) > 1 and parts[1] in FLOORS:
            assert FLOORS[parts[1]] <= FLOORS[room], f"{room} imports {name} from above"
        elif parts[0] in HEAVY:
            assert room in HEAVY[parts[0]], f"{room} imports {name}"


def test_importing_the_package_is_light() -> None:
    """50 ms where numpy takes 100; machines differ fourfold, and on each from hour to hour."""
    code = (
        "import sys, time; "
        "t = time.process_time(); import numpy; its = time.process_time() - t; "
        "t = time.process_time(); import llm_tflite; own = time.process_time() - t; "
        "heavy = {'tensorflow', 'keras', 'ai_edge_litert', 'tokenizers'} & set(sys.modules); "
        "print(own / its, *heavy)"
    )
    shares = []
    for _ in range(5):
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        share, *heavy = run.stdout.split()
        assert not heavy
        shares.append(float(share))
    assert statistics.median(shares) < 0.5


def test_no_file_passes_400_lines() -> None:
    assert {p.name: n for p in MODULES if (n := len(p.read_text().splitlines())) > 400} == {}
