import contextlib
import dataclasses
import io
import json
import os
import random
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from material import gpt2_vocabulary, mistral_sentencepiece
from official_engine import official_texts
from tiny_core import CACHE, CONTEXT, HEAD_CAPACITY, greedy, plain_model, write_core

from llm_tflite.artifact import Artifact, write_artifact
from llm_tflite.bundle import litertlm, tflite_metadata
from llm_tflite.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    IncompatibleArtifactError,
    InvalidOptionError,
    MissingDependencyError,
)
from llm_tflite.manifest import (
    CacheBuffer,
    Library,
    Manifest,
    Model,
    Quantization,
    TokenizerFacts,
    Tokens,
)

SUFFIXES = (".litertlm", ".tflite")
SMALL_VOCABULARY, GPT2_VOCABULARY_SIZE = 64, 50257
REFUSED = (CorruptArtifactError, IncompatibleArtifactError)


def manifest(vocabulary: int, kind: str | None, stop: tuple[int, ...] = (2,)) -> Manifest:
    return Manifest(
        library=Library("llm_tflite", "0.1.0"),
        layout="prefill_decode",
        model=Model("TinyCausalLM", vocabulary * 16, vocabulary, CONTEXT, (8,)),
        cache=tuple(
            CacheBuffer(name, shape, "float32", shape.index(CONTEXT))
            for name, shape in CACHE.items()
        ),
        tokens=Tokens(None, stop),
        tokenizer=TokenizerFacts(kind) if kind else None,  # type: ignore[arg-type]
        quantization=Quantization("none", {}, ()),
    )


@pytest.fixture(scope="module")
def tokenizer_json() -> bytes:
    import tokenizers

    vocabulary, merges = gpt2_vocabulary()
    model = tokenizers.models.BPE.from_file(str(vocabulary), str(merges))
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.add_special_tokens(["<|endoftext|>"])
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer.to_str().encode()


@pytest.fixture(scope="module")
def small_core(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("small") / "core.tflite"
    write_core(path, SMALL_VOCABULARY)
    return path


@pytest.fixture(scope="module")
def small(small_core: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The same small artifact in both containers, with a tokenizer of a few bytes."""
    folder = tmp_path_factory.mktemp("artifacts")
    facts = manifest(SMALL_VOCABULARY, "hf")
    written = {
        suffix: write_artifact(folder / f"a{suffix}", small_core, b'{"not": "loaded"}', facts)
        for suffix in SUFFIXES
    }
    return {suffix: artifact.path.read_bytes() for suffix, artifact in written.items()}


def open_and_verify(data: bytes) -> Artifact:
    artifact = Artifact.from_bytes(data)
    artifact.verify()
    return artifact


# --- there and back -----------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_an_artifact_says_what_was_written(small: dict[str, bytes], suffix: str):
    artifact = open_and_verify(small[suffix])
    assert artifact.container == suffix
    assert artifact.size_bytes == len(small[suffix])
    facts = manifest(SMALL_VOCABULARY, "hf")
    assert dataclasses.replace(artifact.manifest, sections={}) == facts
    assert "TinyCausalLM" in repr(artifact)


def test_the_same_input_gives_the_same_bytes(small, small_core: Path, tmp_path: Path):
    facts = manifest(SMALL_VOCABULARY, "hf")
    for suffix in SUFFIXES:
        path = tmp_path / f"b{suffix}"
        write_artifact(path, small_core, b'{"not": "loaded"}', facts)
        assert path.read_bytes() == small[suffix]


def test_saving_in_the_other_form_gives_what_converting_to_it_gives(small, tmp_path: Path):
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        path.write_bytes(small[suffix])
        for other in SUFFIXES:
            saved = Artifact.open(path).save_as(tmp_path / f"{suffix[1:]}{other}")
            assert saved.path.read_bytes() == small[other]


def test_both_containers_give_the_model_one_digest(small, small_core: Path):
    one, other = (open_and_verify(small[suffix]).manifest for suffix in SUFFIXES)
    assert one.sections["model"] == other.sections["model"]
    begin, end = Artifact.from_bytes(small[".litertlm"]).model_section()
    assert small[".litertlm"][begin:end] == small_core.read_bytes()
    assert Artifact.from_bytes(small[".litertlm"]).read_model() == small_core.read_bytes()
    assert Artifact.from_bytes(small[".tflite"]).read_model() == small[".tflite"]


def test_a_model_without_tokenizer_has_none(small_core: Path, tmp_path: Path):
    for suffix in SUFFIXES:
        path = tmp_path / f"a{suffix}"
        artifact = write_artifact(path, small_core, None, manifest(SMALL_VOCABULARY, None))
        artifact.verify()
        assert artifact.tokenizer() is None


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_tokenizer_comes_back(small_core: Path, tmp_path: Path, tokenizer_json, suffix: str):
    for kind, data in (
        ("hf", tokenizer_json),
        ("sentencepiece", mistral_sentencepiece().read_bytes()),
    ):
        path = tmp_path / f"{kind}{suffix}"
        artifact = write_artifact(path, small_core, data, manifest(SMALL_VOCABULARY, kind))
        tokenizer = artifact.tokenizer()
        assert tokenizer is not None
        assert tokenizer.kind == kind
        assert tokenizer.decode(tokenizer.encode("Hello wörld")) == "Hello wörld"


# --- other programs -----------------------------------------------------------------------------


def test_the_bundle_is_what_the_official_builder_writes(small, small_core: Path, tmp_path: Path):
    import litert_lm_builder as official

    contents = litertlm.read_contents(io.BytesIO(small[".litertlm"]))
    stored = {
        name: small[".litertlm"][span.begin : span.end] for name, span in contents.sections.items()
    }
    for name, data in (
        ("llm.pb", stored["llm_metadata"]),
        ("executor.pb", stored["executor_metadata"]),
        ("tokenizer.json", b'{"not": "loaded"}'),
        ("manifest", contents.manifest.to_bytes()),
    ):
        (tmp_path / name).write_bytes(data)
    key = official.Metadata("llm_tflite", "manifest", official.DType.STRING)
    builder = official.LitertLmFileBuilder()
    builder.add_llm_metadata(str(tmp_path / "llm.pb"))
    builder.add_hf_tokenizer(str(tmp_path / "tokenizer.json"))
    builder.add_tflite_model(str(small_core), official.TfLiteModelType.PREFILL_DECODE)
    builder.add_executor_metadata(str(tmp_path / "executor.pb"))
    builder.add_generic_binary_data(str(tmp_path / "manifest"), [key])
    theirs = tmp_path / "theirs.litertlm"
    with theirs.open("wb") as stream:
        builder.build(stream, validate_metadata=True)
    with theirs.open("rb") as stream:
        header = litertlm.read_header(stream)
    ours = litertlm.read_header(io.BytesIO(small[".litertlm"]))
    assert header.sections == ours.sections
    assert header.version == ours.version
    assert header.system.keys() == ours.system.keys()
    begin = ours.sections[0].span.begin
    assert theirs.read_bytes()[begin:] == small[".litertlm"][begin:]


def test_the_metadata_for_the_official_runtime(small):
    from litert_lm_builder.runtime.proto import executor_metadata_pb2, llm_metadata_pb2

    contents = litertlm.read_contents(io.BytesIO(small[".litertlm"]))
    span = contents.sections["llm_metadata"]
    llm = llm_metadata_pb2.LlmMetadata.FromString(small[".litertlm"][span.begin : span.end])
    assert [list(stop.token_ids.ids) for stop in llm.stop_tokens] == [[2]]
    assert not llm.HasField("start_token")
    assert (llm.sampler_params.type, llm.sampler_params.k) == (llm.sampler_params.TOP_P, 1)
    assert llm.max_num_tokens == CONTEXT
    span = contents.sections["executor_metadata"]
    executor = executor_metadata_pb2.ExecutorMetadata.FromString(
        small[".litertlm"][span.begin : span.end]
    )
    buffers = executor.llm_executor_metadata.state_buffers
    axes = {buffer.decode_input_name: buffer.sequence_axis for buffer in buffers}
    assert axes == {"kv_cache_k_0": 2, "kv_cache_v_0": 3}


def test_every_runtime_says_the_same(tmp_path: Path, tokenizer_json: bytes):
    from ai_edge_litert.compiled_model import CompiledModel

    core = tmp_path / "core.tflite"
    write_core(core, GPT2_VOCABULARY_SIZE)
    facts = manifest(GPT2_VOCABULARY_SIZE, "hf", stop=(50256,))
    prompt = "Hello world, I am"
    artifacts = [
        write_artifact(tmp_path / f"a{suffix}", core, tokenizer_json, facts) for suffix in SUFFIXES
    ]
    tokenizer = artifacts[0].tokenizer()
    assert tokenizer is not None
    ids = tokenizer.encode(prompt)

    def say(model: Any) -> str:
        count = CONTEXT - len(ids)
        return tokenizer.decode(greedy(model, ids, count, GPT2_VOCABULARY_SIZE))

    expected = say(CompiledModel.from_file(str(core)))
    assert len(set(expected.split())) > 1
    assert say(CompiledModel.from_file(str(artifacts[1].path))) == expected
    for artifact in artifacts:
        assert say(CompiledModel.from_buffer(artifact.read_model())) == expected
    pytest.importorskip("litert_lm", reason="the official runtime is not installed")
    (official,) = official_texts(artifacts[0].path, [prompt])
    assert official
    assert expected.startswith(official)
    assert len(official.split()) > 5


def test_writing_a_bundle_without_the_builder_names_the_extra(small_core, tmp_path, monkeypatch):
    for name in [n for n in sys.modules if n.split(".")[0] == "litert_lm_builder"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "litert_lm_builder", None)
    facts = manifest(SMALL_VOCABULARY, None)
    with pytest.raises(MissingDependencyError, match=r"llm-tflite\[convert\]"):
        write_artifact(tmp_path / "a.litertlm", small_core, None, facts)
    assert not list(tmp_path.iterdir())


# --- changed and cut files ----------------------------------------------------------------------


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_changed_byte_is_noticed(small: dict[str, bytes], suffix: str):
    data = bytearray(small[suffix])
    chance = random.Random(11)
    # All of headers and manifest, where changes can be meaningful, and a sample of the rest.
    begin = Artifact.from_bytes(bytes(data)).model_section()[0]
    ends = [*range(1024), *range(begin, begin + 256), *range(len(data) - 1200, len(data))]
    other_program = 0
    for position in ends + [chance.randrange(len(data)) for _ in range(4096)]:
        original = data[position]
        data[position] ^= chance.randrange(1, 256)
        with pytest.raises(REFUSED) as caught:
            open_and_verify(bytes(data))
        other_program += isinstance(caught.value, IncompatibleArtifactError)
        data[position] = original
    # Where the mark of our own manifest is damaged, the file looks like another program's.
    assert other_program < 100
    open_and_verify(bytes(data))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_each_cut_and_each_addition_is_noticed(small: dict[str, bytes], suffix: str):
    data = small[suffix]
    for length in [*range(64), *range(64, len(data), 97), len(data) - 1]:
        with pytest.raises(REFUSED):
            open_and_verify(data[:length])
    for extra in (b"\0", b"x" * 100, bytes(1 << 20)):
        with pytest.raises(CorruptArtifactError):
            Artifact.from_bytes(data + extra)


def test_sections_of_another_file_are_noticed(small, small_core: Path, tmp_path: Path):
    for suffix in SUFFIXES:
        path = tmp_path / f"b{suffix}"
        facts = dataclasses.replace(manifest(SMALL_VOCABULARY, "hf"), layout="prefill_decodE")
        write_artifact(path, small_core, b'{"not": "LOADED"}', facts)
        for name in ("tokenizer", "manifest"):
            data = bytearray(small[suffix])
            span = _span(small[suffix], suffix, name)
            data[span.begin : span.end] = path.read_bytes()[span.begin : span.end]
            with pytest.raises(CorruptArtifactError):
                open_and_verify(bytes(data))


def _span(data: bytes, suffix: str, name: str) -> Any:
    module = litertlm if suffix == ".litertlm" else tflite_metadata
    contents = module.read_contents(io.BytesIO(data))
    return contents.manifest_span if name == "manifest" else contents.sections[name]


def test_a_damaged_file_is_named_and_not_saved_further(small, tmp_path: Path):
    path = tmp_path / "damaged.tflite"
    data = bytearray(small[".tflite"])
    data[HEAD_CAPACITY + 100] ^= 1
    path.write_bytes(data)
    artifact = Artifact.open(path)
    for act in (artifact.verify, artifact.read_model):
        with pytest.raises(CorruptArtifactError, match=r"damaged\.tflite: .*'model'"):
            act()
    with pytest.raises(CorruptArtifactError):
        artifact.save_as(tmp_path / "b.litertlm")
    assert [p.name for p in tmp_path.iterdir()] == ["damaged.tflite"]


# --- files that are not ours --------------------------------------------------------------------


def test_files_of_other_programs_are_incompatible(tmp_path: Path, small):
    from litert_lm_builder import LitertLmFileBuilder

    plain = plain_model(SMALL_VOCABULARY, tmp_path / "saved")
    with pytest.raises(IncompatibleArtifactError, match="another program"):
        Artifact.from_bytes(plain)
    path = tmp_path / "theirs.litertlm"
    (tmp_path / "blob").write_bytes(b"blob")
    builder = LitertLmFileBuilder()
    builder.add_generic_binary_data(str(tmp_path / "blob"))
    with path.open("wb") as stream:
        builder.build(stream)
    with pytest.raises(IncompatibleArtifactError, match=r"theirs\.litertlm: .*another program"):
        Artifact.open(path)
    with pytest.raises(IncompatibleArtifactError, match="zip"):
        Artifact.from_bytes(b"PK\x03\x04" + bytes(100))
    later = bytearray(small[".litertlm"])
    later[8] = 2
    with pytest.raises(IncompatibleArtifactError, match="version 2"):
        Artifact.from_bytes(bytes(later))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"L",
        b"LITERTLM",
        b"LITERTLM\1\0\0\0" + bytes(1000),
        b"\x10\0\0\0TFL3",
        b"\xff\xff\xff\xffTFL3" + bytes(100),
        b"\x08\0\0\0TFL3" + b"\xff" * 100,
        b"\x08\0\0\0TFL9" + bytes(100),
        b"LITERTLN" + b"\1" + bytes(100),
    ],
)
def test_what_is_no_container_is_corrupt(data: bytes):
    with pytest.raises(CorruptArtifactError):
        Artifact.from_bytes(data)


def test_what_is_no_file_is_not_opened(tmp_path: Path, small):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "missing", "/dev/zero"):
        with pytest.raises(ArtifactNotFoundError):
            Artifact.open(path)
    (tmp_path / "real.tflite").write_bytes(small[".tflite"])
    (tmp_path / "link").symlink_to("real.tflite")
    Artifact.open(tmp_path / "link").verify()


# --- hostile bundle headers ---------------------------------------------------------------------


def bundle(sections: list[tuple[int, int, int, dict[str, str]]], body: int = 1 << 16) -> bytes:
    """A ``.litertlm`` file with any header: (type, begin, end, items) of each section."""
    import flatbuffers
    from litert_lm_builder import litertlm_header_schema_py_generated as schema

    def pairs(items: dict[str, str]) -> list[Any]:
        kind = schema.VData.StringValue
        return [
            schema.KeyValuePairT(key=k, value=schema.StringValueT(v), valueType=kind)
            for k, v in items.items()
        ]

    objects = [
        schema.SectionObjectT(items=pairs(items), dataType=kind, beginOffset=begin, endOffset=end)
        for kind, begin, end, items in sections
    ]
    header = schema.LiteRTLMMetaDataT(
        systemMetadata=schema.SystemMetadataT(entries=[]),
        sectionMetadata=schema.SectionMetadataT(objects=objects),
    )
    builder = flatbuffers.Builder(1024)
    builder.Finish(header.Pack(builder))
    table = bytes(builder.Output())
    start = b"LITERTLM" + (1).to_bytes(4, "little") + bytes(12)
    start += (32 + len(table)).to_bytes(8, "little")
    return (start + table).ljust(body, b"\0")


BLOCK = 16384


@pytest.mark.parametrize("end", [0, 31, 32, 1 << 20, 1 << 63, (1 << 64) - 1])
def test_a_header_of_impossible_size_is_corrupt(end: int):
    data = bytearray(bundle([(1, BLOCK, BLOCK + 4, {})]))
    data[24:32] = end.to_bytes(8, "little")
    with pytest.raises(CorruptArtifactError):
        litertlm.read_header(io.BytesIO(bytes(data)))


@pytest.mark.parametrize(
    "spans",
    [
        [(2 * BLOCK, BLOCK)],
        [(BLOCK, 1 << 62)],
        [((1 << 64) - BLOCK, 5)],
        [(BLOCK, 3 * BLOCK), (2 * BLOCK, 3 * BLOCK)],
        [(BLOCK, BLOCK + 9), (BLOCK, BLOCK + 9)],
        [(BLOCK + 1, BLOCK + 9)],
        [(0, BLOCK)],
        [(BLOCK, (1 << 16) + 1)],
    ],
)
def test_impossible_section_places_are_corrupt(spans: list[tuple[int, int]]):
    data = bundle([(1, begin, end, {}) for begin, end in spans])
    with pytest.raises(CorruptArtifactError):
        litertlm.read_header(io.BytesIO(data))


def test_unknown_sections_are_kept_by_the_reader_of_any_bundle():
    data = bundle([(200, BLOCK, BLOCK + 4, {"model_type": "x"}), (1, 2 * BLOCK, 2 * BLOCK, {})])
    sections = litertlm.read_header(io.BytesIO(data)).sections
    assert [section.type for section in sections] == [200, 1]
    assert sections[0].items == {"model_type": "x"}


@pytest.mark.parametrize("name", ["../../x", "C:\\x", "a\0b", "x" * 100_000])
def test_names_in_a_header_are_only_text(name: str):
    data = bundle([(3, 1 << 17, 1 << 17, {"model_type": name})], body=1 << 18)
    assert litertlm.read_header(io.BytesIO(data)).sections[0].items["model_type"] == name


def test_a_header_of_ten_megabytes_is_corrupt():
    begin = 11 << 20
    data = bundle([(3, begin, begin, {"model_type": "x" * (10 << 20)})], body=12 << 20)
    with pytest.raises(CorruptArtifactError, match="header"):
        litertlm.read_header(io.BytesIO(data))


def test_sections_beside_those_that_the_manifest_lists_are_corrupt(small):
    """Two tokenizers, none, an extra section: the header was rebuilt around our real sections."""
    data = small[".litertlm"]
    header = litertlm.read_header(io.BytesIO(data))
    listed = [(s.type, s.span.begin, s.span.end, dict(s.items)) for s in header.sections]
    tokenizer = next(entry for entry in listed if entry[0] == 6)
    end = -(-len(data) // BLOCK) * BLOCK
    for sections in (
        [*listed, (6, end, end + 10, {})],
        [*listed, (4, end, end + 10, {})],
        [*listed, (77, end, end + 10, {})],
        [entry for entry in listed if entry is not tokenizer],
        [entry for entry in listed if entry[0] != 3],
        [*listed, (1, end, end + 10, {"llm_tflite": "manifest"})],
    ):
        rebuilt = bytearray(bundle(sections, body=end + 10))
        rebuilt[BLOCK : len(data)] = data[BLOCK:]
        size = end + 10 if len(sections) > len(listed) else len(data)
        with pytest.raises(CorruptArtifactError):
            Artifact.from_bytes(bytes(rebuilt[:size]))


def test_a_compressed_tokenizer_may_not_explode():
    honest = litertlm.pack_tokenizer("hf", b"x" * 100_000)
    assert litertlm.unpack_tokenizer("hf", honest) == b"x" * 100_000
    stream = zlib.compress(bytes(100_000))
    for stored in (
        (1 << 40).to_bytes(8, "little") + stream,
        (1 << 63).to_bytes(8, "little") + stream,
        (99_999).to_bytes(8, "little") + stream,
        (100_001).to_bytes(8, "little") + stream,
        (0).to_bytes(8, "little") + stream,
        (100_000).to_bytes(8, "little") + stream + b"more",
        (100_000).to_bytes(8, "little") + stream[:-1],
        (100_000).to_bytes(8, "little") + b"junk" * 100,
        b"",
        b"short",
    ):
        with pytest.raises(CorruptArtifactError):
            litertlm.unpack_tokenizer("hf", stored)


@settings(max_examples=400, deadline=None)
@given(
    changes=st.lists(
        st.tuples(st.integers(0, 2047), st.sampled_from([0, 1, 0x7F, 0x80, 0xFF])), max_size=8
    ),
    suffix=st.sampled_from(SUFFIXES),
)
def test_a_changed_header_gives_an_answer_or_our_error(small, changes, suffix):
    data = bytearray(small[suffix])
    for position, value in changes:
        data[position] = value
    read = litertlm.read_header if suffix == ".litertlm" else tflite_metadata.find_slots
    with contextlib.suppress(*REFUSED):
        read(io.BytesIO(bytes(data)))


# --- refusals of the writer ---------------------------------------------------------------------


def test_targets_and_cores_that_cannot_be_are_refused(small_core: Path, small, tmp_path: Path):
    facts = manifest(SMALL_VOCABULARY, None)
    with pytest.raises(InvalidOptionError, match=r"\.litertlm"):
        write_artifact(tmp_path / "a.bin", small_core, None, facts)
    with pytest.raises(InvalidOptionError, match="tokenizer"):
        write_artifact(tmp_path / "a.tflite", small_core, b"{}", facts)
    wrapped, foreign = tmp_path / "wrapped", tmp_path / "foreign"
    wrapped.write_bytes(small[".tflite"])
    foreign.write_bytes(plain_model(SMALL_VOCABULARY, tmp_path / "saved"))
    for core in (wrapped, foreign):
        with pytest.raises(IncompatibleArtifactError, match="metadata entries"):
            write_artifact(tmp_path / "a.tflite", core, None, facts)
    assert not (tmp_path / "a.tflite").exists()


def test_an_existing_target_is_kept_unless_told_otherwise(small_core: Path, tmp_path: Path):
    path = tmp_path / "a.tflite"
    path.write_bytes(b"old")
    facts = manifest(SMALL_VOCABULARY, None)
    with pytest.raises(ArtifactExistsError):
        write_artifact(path, small_core, None, facts)
    assert path.read_bytes() == b"old"
    artifact = write_artifact(path, small_core, None, facts, overwrite=True)
    with pytest.raises(ArtifactExistsError):
        artifact.save_as(path)
    saved = artifact.save_as(path, overwrite=True)
    assert json.loads(saved.manifest.to_bytes())["layout"] == "prefill_decode"
