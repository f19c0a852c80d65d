"""Converts the codelab's model: ``python -m benchmarks.codelab_ours QUANTIZER=FILE``."""

from __future__ import annotations

import sys

from llm_tflite.converter import Converter
from llm_tflite.demo.material import GPT2_MERGES, GPT2_VOCABULARY, fetch
from llm_tflite.demo.shapes import gpt2_124m

from .codelab_workload import MAX_LENGTH

if __name__ == "__main__":
    fetch(GPT2_MERGES)
    model = gpt2_124m(vocabulary=fetch(GPT2_VOCABULARY).parent)
    quantizer, _, path = sys.argv[1].partition("=")
    converter = Converter(model, layout="generate", quantizer=quantizer, max_length=MAX_LENGTH)
    converter.convert(path, overwrite=True)
