"""Makes the files of all cases: ``python -m benchmarks.model_files FOLDER``.

A process of its own, since TensorFlow and float models should not stay in memory.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf

from llm_tflite.converter import Converter
from llm_tflite.demo.gguf_llama import load_gguf_llama
from llm_tflite.demo.material import GPT2_MERGES, GPT2_VOCABULARY, fetch, smollm2_gguf
from llm_tflite.demo.shapes import gpt2_124m

from .cases import GGUF_KINDS, GPT2, QUANTIZERS, SMOLLM2, artifact_file, gguf_file
from .gguf_files import requantize, write_gpt2


def make_files(folder: Path) -> None:
    """Write every file that ``all_cases`` names, replacing older ones."""
    folder.mkdir(parents=True, exist_ok=True)
    source = smollm2_gguf()
    _make(folder, SMOLLM2, load_gguf_llama(source), lambda *to: requantize(source, *to))
    fetch(GPT2_MERGES)
    model = gpt2_124m(vocabulary=fetch(GPT2_VOCABULARY).parent)
    _make(folder, GPT2, model, lambda *to: write_gpt2(model, *to))


def _make(
    folder: Path,
    name: str,
    model: Any,
    write_gguf: Callable[[Path, gguf.GGMLQuantizationType], None],
) -> None:
    for kind in GGUF_KINDS:
        write_gguf(gguf_file(folder, name, kind), gguf.GGMLQuantizationType[kind])
    for bits, quantizer in QUANTIZERS.items():
        path = artifact_file(folder, name, bits)
        Converter(model, quantizer=quantizer).convert(path, overwrite=True)


if __name__ == "__main__":
    make_files(Path(sys.argv[1]))
