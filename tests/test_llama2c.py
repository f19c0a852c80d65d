"""A llama2.c checkpoint, written here, as a KerasHub model."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_tflite.demo.llama2c import load_llama2c
from llm_tflite.errors import ArtifactNotFoundError, CorruptArtifactError
from llm_tflite.tracing.reference import keras_logits

DIM, HIDDEN, LAYERS, HEADS, KEY_HEADS, CONTEXT = 16, 24, 2, 4, 2, 12
SIZE = DIM // HEADS
PIECES = [b"<unk>", b"\n<s>\n", b"\n</s>\n", *(bytes([b]) for b in range(256))]
PIECES += [b" ", b"a", b"b", b"ab", b" ab"]
SHAPES = {
    "embedding": (len(PIECES), DIM),
    "attention_norm": (LAYERS, DIM),
    "q": (LAYERS, DIM, DIM),
    "k": (LAYERS, KEY_HEADS * SIZE, DIM),
    "v": (LAYERS, KEY_HEADS * SIZE, DIM),
    "o": (LAYERS, DIM, DIM),
    "feed_norm": (LAYERS, DIM),
    "w1": (LAYERS, HIDDEN, DIM),
    "w2": (LAYERS, DIM, HIDDEN),
    "w3": (LAYERS, HIDDEN, DIM),
    "norm": (DIM,),
    "angles": (2, CONTEXT, SIZE // 2),
    "head": (len(PIECES), DIM),
}


def write(path: Path, *, tied: bool) -> dict[str, Any]:
    random = np.random.default_rng(0)
    tensors = {
        name: random.normal(size=shape).astype(np.float32) / 2 for name, shape in SHAPES.items()
    }
    vocabulary = len(PIECES) if tied else -len(PIECES)
    data = struct.pack("<7i", DIM, HIDDEN, LAYERS, HEADS, KEY_HEADS, vocabulary, CONTEXT)
    for name, values in tensors.items():
        data += b"" if tied and name == "head" else values.tobytes()
    data += struct.pack("<i", 6)
    for token, piece in enumerate(PIECES):
        data += struct.pack("<fi", float(token - 259 if token > 258 else 0), len(piece)) + piece
    path.write_bytes(data)
    return tensors


def reference(t: dict[str, Any], ids: list[int], *, tied: bool) -> np.ndarray:
    """The forward pass of run.c: pairs that turn together are neighbours."""
    angles = np.outer(np.arange(len(ids)), 1e4 ** (-np.arange(0, SIZE, 2) / SIZE))
    turn = np.exp(1j * angles)[:, None, :]

    def norm(x: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return np.asarray(x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * scale)

    def rotate(x: np.ndarray) -> np.ndarray:
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    x = t["embedding"][ids].astype(np.float64)
    count = len(ids)
    for i in range(LAYERS):
        y = norm(x, t["attention_norm"][i])
        q = rotate((y @ t["q"][i].T).reshape(count, HEADS, SIZE))
        k = rotate((y @ t["k"][i].T).reshape(count, KEY_HEADS, SIZE))
        v = (y @ t["v"][i].T).reshape(count, KEY_HEADS, SIZE)
        k, v = (np.repeat(each, HEADS // KEY_HEADS, axis=1) for each in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(SIZE)
        scores[:, np.triu(np.ones((count, count), bool), 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hqk,khd->qhd", shares, v).reshape(count, DIM) @ t["o"][i].T
        y = norm(x, t["feed_norm"][i])
        gate = y @ t["w1"][i].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ t["w3"][i].T)) @ t["w2"][i].T
    return np.asarray(norm(x, t["norm"]) @ t["embedding" if tied else "head"].T)


@pytest.mark.parametrize("tied", [True, False])
def test_a_loaded_model_computes_what_its_file_says(tied: bool, tmp_path: Path) -> None:
    tensors = write(tmp_path / "m.data", tied=tied)
    model = load_llama2c(tmp_path / "m.data")
    ids = [1, 260, 262, 5, 5, 263, 0]
    expected = reference(tensors, ids, tied=tied)
    np.testing.assert_allclose(keras_logits(model, ids), expected, atol=1e-4)


def test_the_tokenizer_merges_and_falls_back_to_bytes(tmp_path: Path) -> None:
    write(tmp_path / "m.data", tied=True)
    preprocessor = load_llama2c(tmp_path / "m.data").preprocessor
    prompt = preprocessor.generate_preprocess("ab b\u00e9", sequence_length=CONTEXT)
    ids = np.asarray(prompt["token_ids"])[: int(np.sum(prompt["padding_mask"]))].tolist()
    assert ids == [1, 263, 259, 261, 3 + 0xC3, 3 + 0xA9]


@pytest.mark.parametrize("length", [0, 27, 28, 5000, -1])
def test_a_file_that_ends_early_is_refused(length: int, tmp_path: Path) -> None:
    path = tmp_path / "m.data"
    write(path, tied=True)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(CorruptArtifactError, match="expected"):
        load_llama2c(path)


def test_sizes_that_make_no_model_are_refused(tmp_path: Path) -> None:
    (tmp_path / "m.data").write_bytes(struct.pack("<7i", 16, 24, 2, -4, 2, 100, 12))
    with pytest.raises(CorruptArtifactError, match="sizes of a Llama"):
        load_llama2c(tmp_path / "m.data")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"none\.data"):
        load_llama2c(tmp_path / "none.data")
