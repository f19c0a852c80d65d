import contextlib
import dataclasses
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_tflite.errors import CorruptArtifactError, IncompatibleArtifactError
from llm_tflite.manifest import (
    CacheBuffer,
    Library,
    Manifest,
    Model,
    Quantization,
    QuantizedWeight,
    SectionFacts,
    TokenizerFacts,
    Tokens,
)


def example(**changes: Any) -> Manifest:
    manifest = Manifest(
        library=Library("llm_tflite", "0.1.0"),
        layout="prefill_decode",
        model=Model("GPT2CausalLM", 124_439_808, 50257, 1024, (8, 32, 128), exact_prefill=True),
        cache=(
            CacheBuffer("kv_cache_k_0", (1, 12, 1024, 64), "float32", 2),
            CacheBuffer("kv_cache_v_0", (1, 12, 64, 1024), "float16", 3),
            CacheBuffer("state_0_1", (1, 4, 8), "float32", None),
        ),
        tokens=Tokens(None, (50256,)),
        tokenizer=TokenizerFacts("hf"),
        quantization=Quantization(
            "int4",
            {"block_size": 32, "search": [0.9, 1.0]},
            (QuantizedWeight("a/kernel", (30, 30), "projection", 8, 0, 1020, "kept at 8 bits"),),
        ),
        check={"tokens": 8, "largest_difference": 1.5e-05, "same": True, "note": "é"},
        sections={"model": SectionFacts("0" * 64, 130_000_000)},
    )
    return dataclasses.replace(manifest, **changes)


def resealed(values: dict[str, Any]) -> bytes:
    """A manifest as an attacker would write it: any values, with the right digest."""
    values.pop("digest", None)

    def canonical(content: dict[str, Any]) -> bytes:
        text = json.dumps(content, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return text.encode()

    values["digest"] = hashlib.sha256(canonical(values)).hexdigest()
    return canonical(values)


def test_reading_gives_back_what_was_written():
    assert Manifest.from_bytes(example().to_bytes()) == example()
    bare = example(tokenizer=None, check=None, sections={}, cache=())
    assert Manifest.from_bytes(bare.to_bytes()) == bare


def test_the_form_is_canonical_json_that_anybody_can_read():
    values = json.loads(example().to_bytes())
    assert values["model"]["class"] == "GPT2CausalLM"
    assert values["format_version"] == "1.0"
    assert list(values) == sorted(values)
    assert resealed(values) == example().to_bytes()


def test_sizes_are_added_up():
    assert example().weight_bytes == 1020
    assert example().cache_bytes == 12 * 1024 * 64 * (4 + 2) + 32 * 4


def test_each_changed_bit_is_noticed():
    data = example().to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(CorruptArtifactError):
                Manifest.from_bytes(bytes(changed))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"{}",
        b"\xff\xfe",
        b"\0" * 100,
        b"[" * 100_000,
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        b'{"a":1,"a":2}',
        b'{"a":NaN}',
        b'{"a":-Infinity}',
        b'{"format_version":"1.0","a":1e999}',
        b'{"format_version":"1.0","a":"\\ud800"}',
        b'{"format_version":"1.0","a":' + b"9" * 5000 + b"}",
        b"\xef\xbb\xbf" + example().to_bytes(),
        example().to_bytes() + b" ",
        example().to_bytes()[:-1],
    ],
)
def test_what_is_no_manifest_is_refused(data: bytes):
    with pytest.raises(CorruptArtifactError):
        Manifest.from_bytes(data)


def test_a_manifest_of_a_gigabyte_is_refused_unread():
    with pytest.raises(CorruptArtifactError, match="at most"):
        Manifest.from_bytes(bytes((64 << 20) + 1))


def test_a_later_major_version_asks_for_an_update():
    values = json.loads(example().to_bytes()) | {"format_version": "2.0", "anything": 1}
    with pytest.raises(IncompatibleArtifactError, match=r"format 2\.0"):
        Manifest.from_bytes(resealed(values))


def test_a_later_minor_version_may_say_more():
    values = json.loads(example().to_bytes()) | {"format_version": "1.7", "anything": 1}
    values["model"]["more"] = [1, 2]
    assert Manifest.from_bytes(resealed(values)).model == example().model
    values["format_version"] = "1.0"
    with pytest.raises(CorruptArtifactError, match="unknown keys"):
        Manifest.from_bytes(resealed(values))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("layout", 1),
        ("layout", None),
        ("format_version", 1.0),
        ("format_version", "1"),
        ("format_version", "1.x"),
        ("format_version", "¹.0"),
        ("model", []),
        ("model.parameters", -1),
        ("model.parameters", 1.0),
        ("model.parameters", True),
        ("model.parameters", "1"),
        ("model.parameters", 1 << 63),
        ("model.prefill_lengths", {}),
        ("model.prefill_lengths", [8, -8]),
        ("model.prefill_lengths", [0]),
        ("model.prefill_lengths", [8, 8]),
        ("model.prefill_lengths", [32, 8]),
        ("model.prefill_lengths", [2048]),
        ("cache", None),
        ("cache.0.shape", [1, -1]),
        ("cache.0.dtype", "complex64"),
        ("cache.0.slot_axis", 1),
        ("cache.0.slot_axis", 4),
        ("cache.0.slot_axis", "2"),
        ("model.exact_prefill", 1),
        ("model.exact_prefill", False),
        ("model.prefix_prefill", 1),
        ("model.prefix_prefill", True),
        ("tokens.start", -1),
        ("tokens.start", 50257),
        ("tokens.stop", [50257]),
        ("tokens.stop", 1),
        ("tokenizer", "hf"),
        ("tokenizer.kind", "wordpiece"),
        ("quantization.weights.0.bits", None),
        ("quantization.describe", []),
        ("check", 3),
        ("sections.model.size", -5),
        ("sections.model.sha256", 5),
        ("sections", []),
    ],
)
def test_wrong_types_and_impossible_values_are_refused_by_name(path: str, value: object):
    values = json.loads(example().to_bytes())
    place = values
    *parents, last = path.split(".")
    for key in parents:
        place = place[int(key) if key.isdigit() else key]
    place[int(last) if last.isdigit() else last] = value
    with pytest.raises(CorruptArtifactError):
        Manifest.from_bytes(resealed(values))


def test_a_model_whose_prompts_are_not_cut_must_read_a_whole_context_at_once():
    cache = (CacheBuffer("kv_cache_k_0", (1, 12, 1024, 64), "float32", 2),)
    facts = Model("PaliGemmaCausalLM", 1, 50257, 1024, (8, 1024), prefix_prefill=True)
    manifest = example(model=facts, cache=cache)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    values = json.loads(manifest.to_bytes())
    values["model"]["prefill_lengths"] = [8, 512]
    with pytest.raises(CorruptArtifactError, match="a prefill graph for the whole context of 1024"):
        Manifest.from_bytes(resealed(values))


@pytest.mark.parametrize("key", sorted(json.loads(example().to_bytes())))
def test_each_key_is_required(key: str):
    values = json.loads(example().to_bytes())
    del values[key]
    data = resealed(values)
    if key == "digest":
        data = json.dumps({k: v for k, v in values.items() if k != "digest"}).encode()
    with pytest.raises(CorruptArtifactError):
        Manifest.from_bytes(data)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=10,
)


@settings(max_examples=60, deadline=None)
@given(check=st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), JSON))
def test_whatever_a_check_reports_survives(check: dict[str, Any]):
    manifest = example(check=check)
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest


@settings(max_examples=200, deadline=None)
@given(values=JSON, key=st.sampled_from(sorted(json.loads(example().to_bytes()))))
def test_whatever_stands_in_a_key_gives_a_manifest_or_our_error(values: Any, key: str):
    content = json.loads(example().to_bytes()) | {key: values}
    with contextlib.suppress(CorruptArtifactError, IncompatibleArtifactError):
        Manifest.from_bytes(resealed(content))
