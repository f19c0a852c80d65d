from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llm_tflite.demo import shapes
from llm_tflite.demo.gguf_llama import load_gguf_llama
from llm_tflite.demo.material import smollm2_gguf
from llm_tflite.errors import ArtifactNotFoundError, CorruptArtifactError, UnsupportedModelError

_HEADS, _KV_HEADS, _WIDTH, _FFN, _LAYERS = 4, 2, 32, 64, 2
_TOKENS = ["<|im_end|>", *"abcdefgh", "ab"]


def _write_gguf(
    path: Path, *, architecture: str = "llama", change: Callable[[gguf.GGUFWriter], None] = id
) -> dict[str, np.ndarray]:
    """Write a tiny Llama with random weights and return its tensors."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(_LAYERS)
    writer.add_embedding_length(_WIDTH)
    writer.add_feed_forward_length(_FFN)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(1e5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(_TOKENS)
    writer.add_token_types([gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * 9)
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(0)
    keys = _WIDTH // _HEADS * _KV_HEADS
    sizes: dict[str, tuple[int, ...]] = {
        "token_embd": (len(_TOKENS), _WIDTH),
        "output_norm": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        sizes |= {
            f"blk.{layer}.attn_norm": (_WIDTH,),
            f"blk.{layer}.attn_q": (_WIDTH, _WIDTH),
            f"blk.{layer}.attn_k": (keys, _WIDTH),
            f"blk.{layer}.attn_v": (keys, _WIDTH),
            f"blk.{layer}.attn_output": (_WIDTH, _WIDTH),
            f"blk.{layer}.ffn_norm": (_WIDTH,),
            f"blk.{layer}.ffn_gate": (_FFN, _WIDTH),
            f"blk.{layer}.ffn_up": (_FFN, _WIDTH),
            f"blk.{layer}.ffn_down": (_WIDTH, _FFN),
        }
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal(size, dtype=np.float32) / 3 for name, size in sizes.items()
    }
    for name, values in tensors.items():
        writer.add_tensor(f"{name}.weight", values)
    change(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return tensors


def _reference_logits(tensors: dict[str, np.ndarray], ids: list[int]) -> np.ndarray:
    """Llama as llama.cpp computes it from GGUF order: rotary pairs are neighbours."""
    size = _WIDTH // _HEADS
    angles = np.outer(np.arange(len(ids)), 1e5 ** (-np.arange(0, size, 2) / size))
    turn = np.exp(1j * angles)[:, None, :]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5) * tensors[name]

    def rotate(x: np.ndarray) -> np.ndarray:
        turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
        return np.stack([turned.real, turned.imag], -1).reshape(x.shape)

    x = tensors["token_embd"][ids].astype(np.float64)
    for layer in range(_LAYERS):
        weights = {
            name.split(".")[2]: value.T
            for name, value in tensors.items()
            if name.startswith(f"blk.{layer}.")
        }
        y = norm(x, f"blk.{layer}.attn_norm")
        q = rotate((y @ weights["attn_q"]).reshape(len(ids), _HEADS, size))
        k = rotate((y @ weights["attn_k"]).reshape(len(ids), _KV_HEADS, size))
        v = (y @ weights["attn_v"]).reshape(len(ids), _KV_HEADS, size)
        k, v = (np.repeat(each, _HEADS // _KV_HEADS, axis=1) for each in (k, v))
        scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(size)
        scores[:, np.triu(np.ones((len(ids), len(ids)), bool), 1)] = -np.inf
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", shares, v).reshape(len(ids), _WIDTH)
        x = x + mixed @ weights["attn_output"]
        y = norm(x, f"blk.{layer}.ffn_norm")
        gate = y @ weights["ffn_gate"]
        x = x + (gate / (1 + np.exp(-gate)) * (y @ weights["ffn_up"])) @ weights["ffn_down"]
    return norm(x, "output_norm") @ tensors["token_embd"].T


def _keras_logits(model: Any, ids: list[int]) -> np.ndarray:
    batch = np.array([ids])
    return np.asarray(model({"token_ids": batch, "padding_mask": np.ones_like(batch)}))[0]


def test_a_loaded_llama_computes_what_its_file_says(tmp_path: Path) -> None:
    tensors = _write_gguf(tmp_path / "tiny.gguf")
    model = load_gguf_llama(tmp_path / "tiny.gguf")
    ids = [1, 5, 2, 9, 3, 3, 7]
    np.testing.assert_allclose(
        _keras_logits(model, ids), _reference_logits(tensors, ids), atol=1e-4
    )


def test_the_tokenizer_merges_adds_no_start_token_and_knows_the_end(tmp_path: Path) -> None:
    _write_gguf(tmp_path / "tiny.gguf")
    model = load_gguf_llama(tmp_path / "tiny.gguf", sequence_length=8)
    prompt = model.preprocessor.generate_preprocess("abc<|im_end|>")
    assert np.asarray(prompt["token_ids"]).tolist() == [9, 3, 0, 0, 0, 0, 0, 0]
    assert int(np.sum(prompt["padding_mask"])) == 3
    assert model.preprocessor.tokenizer.end_token_id == 0


def test_a_start_token_that_the_file_asks_for_is_added(tmp_path: Path) -> None:
    def with_start_token(writer: gguf.GGUFWriter) -> None:
        writer.add_bos_token_id(0)
        writer.add_add_bos_token(True)

    _write_gguf(tmp_path / "tiny.gguf", change=with_start_token)
    model = load_gguf_llama(tmp_path / "tiny.gguf", sequence_length=3)
    prompt = model.preprocessor.generate_preprocess("ab")
    assert np.asarray(prompt["token_ids"]).tolist() == [0, 9, 0]


@pytest.mark.parametrize(
    ("architecture", "change", "found"),
    [
        ("gpt2", id, "general.architecture = 'llama' in the GGUF file, found 'gpt2'"),
        ("llama", lambda w: w.add_key_length(16), "key_length = 8 in the GGUF file, found 16"),
        ("llama", lambda w: w.add_rope_dimension_count(4), "dimension_count = 8 .*, found 4"),
        (
            "llama",
            lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN),
            "rope.scaling.type = 'none' .*, found 'yarn'",
        ),
        (
            "llama",
            lambda w: w.add_tensor("blk.0.attn_q.bias", np.zeros(_WIDTH, np.float32)),
            "expected the 20 tensors .*, found 21; .*: blk.0.attn_q.bias",
        ),
    ],
)
def test_another_kind_of_model_is_refused(
    tmp_path: Path, architecture: str, change: Callable[[gguf.GGUFWriter], None], found: str
) -> None:
    _write_gguf(tmp_path / "other.gguf", architecture=architecture, change=change)
    with pytest.raises(UnsupportedModelError, match=found):
        load_gguf_llama(tmp_path / "other.gguf")


def test_a_file_without_a_key_is_refused(tmp_path: Path) -> None:
    def forget_the_heads(writer: gguf.GGUFWriter) -> None:
        del writer.kv_data[0]["llama.attention.head_count"]

    _write_gguf(tmp_path / "tiny.gguf", change=forget_the_heads)
    with pytest.raises(CorruptArtifactError, match=r"the key llama\.attention\.head_count"):
        load_gguf_llama(tmp_path / "tiny.gguf")


def test_a_tensor_of_another_size_is_refused(tmp_path: Path) -> None:
    def widen(writer: gguf.GGUFWriter) -> None:
        writer.add_block_count(_LAYERS + 1)
        for name in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.2.{name}.weight", np.ones(_WIDTH, np.float32))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"):
            writer.add_tensor(f"blk.2.{part}.weight", np.ones((8, 8), np.float32))

    _write_gguf(tmp_path / "tiny.gguf", change=widen)
    with pytest.raises(CorruptArtifactError, match=r"blk\.2\.attn_q\.weight to hold 1024 values"):
        load_gguf_llama(tmp_path / "tiny.gguf")


def test_a_file_that_is_not_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.gguf").write_text("not a model at all, but long enough for a header")
    with pytest.raises(CorruptArtifactError, match="not a readable GGUF file"):
        load_gguf_llama(tmp_path / "text.gguf")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    _write_gguf(path)
    whole = path.read_bytes()
    for size in (0, 3, 12, 300, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(CorruptArtifactError):
            load_gguf_llama(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"none\.gguf"):
        load_gguf_llama(tmp_path / "none.gguf")


@pytest.mark.slow
def test_smollm2_knows_the_capital_of_france() -> None:
    model = load_gguf_llama(smollm2_gguf())
    tokenizer = model.preprocessor.tokenizer
    ids = [int(token) for token in tokenizer("The capital of France is")]
    assert tokenizer.detokenize([int(_keras_logits(model, ids)[-1].argmax())]) == " Paris"


@pytest.mark.parametrize("make", [shapes.tiny_gpt2, shapes.tiny_llama, shapes.tiny_llama3])
def test_the_same_seed_gives_the_same_model_and_another_seed_another(
    make: Callable[[int], Any],
) -> None:
    ids = [1, 2, 3]
    np.testing.assert_array_equal(_keras_logits(make(7), ids), _keras_logits(make(7), ids))
    assert np.abs(_keras_logits(make(7), ids) - _keras_logits(make(8), ids)).max() > 0.1


@pytest.mark.parametrize("make", [shapes.tiny_gpt2, shapes.tiny_llama, shapes.tiny_llama3])
def test_random_weights_still_answer_with_many_different_tokens(make: Callable[[], Any]) -> None:
    model = make()
    model.compile(sampler="greedy", jit_compile=False)
    length, given = 72, 8
    prompt = {
        "token_ids": np.arange(length)[None] * (np.arange(length) < given),
        "padding_mask": np.arange(length)[None] < given,
    }
    tokens = np.asarray(model.generate(prompt, stop_token_ids=None)["token_ids"])
    assert len(set(tokens[0, given:].tolist())) > 16
