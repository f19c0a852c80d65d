"""Which models are compared, and which file each engine gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_tflite.demo.material import smollm2_gguf

GPT2, SMOLLM2 = "GPT-2 124M", "SmolLM2 135M"
GGUF_KINDS = ("Q8_0", "Q4_0")
QUANTIZERS = {8: "dynamic_range", 4: "int4"}


@dataclass(frozen=True)
class Contender:
    """One engine with one file; ``module`` is a module of ``benchmarks.engines``."""

    name: str
    module: str
    path: Path
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ours(self) -> bool:
        return self.module == "llm_tflite_interpreter"


@dataclass(frozen=True)
class Case:
    """One model at one precision; the first contender is ours."""

    name: str
    contenders: tuple[Contender, ...]


def all_cases(folder: Path) -> list[Case]:
    """Every comparison, on the files that ``make_files`` leaves in ``folder``."""
    return [
        Case(f"{model}, {bits} bits", tuple(_contenders(folder, model, bits)))
        for model in (GPT2, SMOLLM2)
        for bits in QUANTIZERS
    ]


def artifact_file(folder: Path, model: str, bits: int) -> Path:
    return folder / f"{_stem(model)}-{bits}-bit.litertlm"


def gguf_file(folder: Path, model: str, kind: str) -> Path:
    return folder / f"{_stem(model)}-{kind}.gguf"


def _contenders(folder: Path, model: str, bits: int) -> list[Contender]:
    artifact = artifact_file(folder, model, bits)
    ggufs = {k: gguf_file(folder, model, k) for k in GGUF_KINDS if k.startswith(f"Q{bits}")}
    if model == SMOLLM2 and bits == 4:
        # As it was published. llama.cpp has its faster kernels for Q4_0, so it gets both.
        ggufs["Q4_1"] = smollm2_gguf()
    contenders = [
        Contender("llm_tflite", "llm_tflite_interpreter", artifact),
        Contender("LiteRT-LM", "litert_lm_engine", artifact, {"weight_cache": True}),
        Contender("LiteRT-LM uncached", "litert_lm_engine", artifact, {"weight_cache": False}),
    ]
    for kind, path in ggufs.items():
        contenders.append(Contender(f"llama.cpp {kind}", "llama_cpp_engine", path))
    if model == SMOLLM2:  # OpenVINO reads no GPT-2 from GGUF
        for kind, path in ggufs.items():
            contenders.append(Contender(f"OpenVINO GenAI {kind}", "openvino_engine", path))
    return contenders


def _stem(model: str) -> str:
    return model.replace(" ", "-").lower()
