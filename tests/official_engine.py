"""LiteRT-LM's engine, in a process of its own: it ends one that it cannot serve."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_CODE = """
import json, sys
import litert_lm
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
path, prompts, tokens = json.load(sys.stdin)
backend = litert_lm.Backend.CPU(thread_count=2)
options = {"apply_prompt_template": False}
if tokens is not None:
    options["max_output_tokens"] = tokens
texts = []
with litert_lm.Engine(path, backend=backend, cache_dir=":memory") as engine:
    for prompt in prompts:
        with engine.create_session(**options) as session:
            session.run_prefill([prompt])
            texts.append(session.run_decode().texts[0])
print(json.dumps(texts))
"""


def official_texts(path: Path, prompts: Sequence[str], tokens: int | None = None) -> list[str]:
    """What the engine writes behind each prompt, up to so many tokens, a stop token or the end."""
    result = subprocess.run(
        [sys.executable, "-c", _CODE],
        input=json.dumps([str(path), list(prompts), tokens]),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    texts: list[str] = json.loads(result.stdout.splitlines()[-1])
    return texts


def same_text(ours: str, theirs: str) -> bool:
    """Whether one begins with the other: the engine stops at stop tokens, and we may or not."""
    return bool(theirs) and (ours.startswith(theirs) or theirs.startswith(ours))
