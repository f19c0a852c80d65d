"""What ``inspect`` says of files of ours, of other programs, and of nobody's."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from conftest import CONTEXT, PREFILL_LENGTHS

from llm_tflite.artifact import Artifact
from llm_tflite.bundle import tflite_model
from llm_tflite.converter import Converter
from llm_tflite.errors import ArtifactError, ArtifactNotFoundError, CorruptArtifactError
from llm_tflite.inspection import inspect

LITERTLM, TFLITE = "litertlm_path", "tflite_path"
Paths = Callable[[str], Path]


@pytest.fixture
def artifact(request: pytest.FixtureRequest) -> Paths:
    return request.getfixturevalue


@pytest.fixture(scope="module")
def quantized_path(gpt2: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("quantized") / "int4.tflite"
    converter = Converter(gpt2, quantizer="int4", context_length=CONTEXT, prefill_lengths=(4,))
    converter.convert(path)
    return path


# --- artifacts of ours --------------------------------------------------------------------------


@pytest.mark.parametrize("name", [LITERTLM, TFLITE])
def test_an_artifact_tells_what_it_takes_and_gives(artifact: Paths, name: str) -> None:
    inspection = inspect(artifact(name))
    assert inspection.container == artifact(name).suffix
    assert inspection.size_bytes == artifact(name).stat().st_size
    assert inspection.manifest == Artifact.open(artifact(name)).manifest
    assert (inspection.tokenizer, inspection.digests, inspection.note) == ("hf", "unchecked", "")
    signatures = {s.name: s for s in inspection.models[0].signatures}
    assert signatures.keys() == {"decode", *(f"prefill_{t}" for t in PREFILL_LENGTHS)}
    caches = {"kv_cache_k_0", "kv_cache_v_0", "kv_cache_k_1", "kv_cache_v_1"}
    for signature in signatures.values():
        assert {t.name for t in signature.inputs} == caches | {"tokens", "input_pos"}
        assert signature.operators["DYNAMIC_UPDATE_SLICE"] == len(caches)
        assert signature.custom_operators == {}
    outputs = {t.name: t for t in signatures["decode"].outputs}
    assert (outputs["logits"].shape, outputs["logits"].dtype) == ((1, 1, 50257), "float32")
    assert outputs["kv_cache_k_0"].shape == (1, 2, CONTEXT, 16)
    tokens = next(t for t in signatures["prefill_16"].inputs if t.name == "tokens")
    assert (tokens.shape, tokens.dtype) == ((1, 16), "int32")


def test_both_containers_hold_the_same_model(litertlm_path: Path, tflite_path: Path) -> None:
    assert inspect(litertlm_path).models == inspect(tflite_path).models


def test_weights_are_counted_once_by_type(quantized_path: Path) -> None:
    inspection = inspect(quantized_path)
    assert inspection.manifest is not None
    (model,) = inspection.models
    storage = {s.dtype: s for s in model.storage}
    weights = inspection.manifest.quantization.weights
    # Queries, keys and values of one layer are one array.
    assert storage["int4"].arrays < sum(w.bits == 4 for w in weights)
    assert storage["int4"].values == sum(np.prod(w.shape) for w in weights if w.bits == 4)
    assert storage["int8"].bytes == 50257 * 32
    stored = sum(s.bytes for s in model.storage) + model.scale_bytes
    assert inspection.manifest.weight_bytes < stored < inspection.size_bytes
    assert inspection.bytes_per_parameter == pytest.approx(
        inspection.size_bytes / inspection.manifest.model.parameters
    )


@pytest.mark.parametrize("name", [LITERTLM, TFLITE])
def test_verifying_tells_whether_a_byte_was_changed(
    artifact: Paths, name: str, tmp_path: Path
) -> None:
    assert inspect(artifact(name), verify=True).digests == "match"
    altered = tmp_path / "altered"
    data = bytearray(artifact(name).read_bytes())
    data[2_000_000] ^= 1
    altered.write_bytes(data)
    assert inspect(altered).digests == "unchecked"
    inspection = inspect(altered, verify=True)
    assert inspection.digests == "mismatch"
    assert "'model'" in inspection.note


@pytest.mark.parametrize("name", [LITERTLM, TFLITE, "quantized_path"])
def test_no_buffer_is_stored_twice(artifact: Paths, name: str) -> None:
    begin, end = Artifact.open(artifact(name)).model_section()
    data = artifact(name).read_bytes()[begin:end]
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(data, 0))
    spans = {(b.offset, b.size) for b in model.buffers if b.offset > 1}
    outside = [hashlib.sha256(data[at : at + size]).digest() for at, size in spans if size > 1024]
    assert len(outside) == len(set(outside)) > 0
    inside = [bytes(b.data) for b in model.buffers if b.data is not None and len(b.data) > 1024]
    assert len(inside) == len(set(inside))
    # The tied embedding: looked up by every signature, and multiplied by decode.
    readers = {
        (graph.tensors[i].buffer, graph.name)
        for graph in model.subgraphs
        for operator in graph.operators
        for i in operator.inputs
        if i >= 0 and list(graph.tensors[i].shape) == [50257, 32]
        if model.buffers[graph.tensors[i].buffer].offset > 1
    }
    assert len({buffer for buffer, _ in readers}) == 1
    assert len(readers) == len(model.subgraphs)


def test_the_dictionary_is_json_and_the_page_is_short(litertlm_path: Path) -> None:
    inspection = inspect(litertlm_path)
    values = json.loads(json.dumps(inspection.to_dict()))
    assert values["manifest"]["model"]["class"] == "GPT2CausalLM"
    assert values["models"][0]["signatures"][0]["inputs"][0]["dtype"] == "int32"
    assert [s["name"] for s in values["sections"]][-1] == "manifest"
    page = str(inspection)
    assert "kv_cache_k_0 ... kv_cache_k_1 (2): float32[1, 2, 64, 16]" in page
    assert len(page.splitlines()) < 60


def test_nothing_heavy_is_imported(litertlm_path: Path) -> None:
    code = (
        "import sys, llm_tflite; llm_tflite.inspect(sys.argv[1], verify=True); "
        "print(*({'tensorflow', 'keras', 'tokenizers', 'ai_edge_litert.compiled_model', "
        "'ai_edge_litert.interpreter'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code, str(litertlm_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# --- files of other programs --------------------------------------------------------------------


def write_model(path: Path, change: Callable[[Any], None] = lambda model: None) -> Path:
    """A model with a loop, whose body runs an operation of TensorFlow's, and a weight."""
    model = schema.ModelT()
    model.version = 3
    model.operatorCodes = [code(schema.BuiltinOperator.WHILE), code(32, b"FlexRepeat"), code(0)]
    model.buffers = [schema.BufferT(), schema.BufferT()]
    model.buffers[1].data = np.zeros(400, np.uint8)
    model.subgraphs = [graph([1, 100]), graph([1, 100], weight=1), graph([1])]
    loop = operator(0)
    loop.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    loop.builtinOptions = schema.WhileOptionsT()
    loop.builtinOptions.condSubgraphIndex = 2
    loop.builtinOptions.bodySubgraphIndex = 1
    model.subgraphs[0].operators = [loop]
    model.subgraphs[1].operators = [operator(1), operator(2), operator(2)]
    signature = schema.SignatureDefT()
    signature.signatureKey = b"serve"
    signature.inputs = signature.outputs = [schema.TensorMapT()]
    signature.inputs[0].name = b"x"
    model.signatureDefs = [signature]
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path


def code(builtin: int, custom: bytes | None = None) -> Any:
    made = schema.OperatorCodeT()
    made.builtinCode, made.deprecatedBuiltinCode = builtin, min(builtin, 127)
    made.customCode = custom
    return made


def operator(code_index: int) -> Any:
    made = schema.OperatorT()
    made.opcodeIndex = code_index
    return made


def graph(shape: list[int], weight: int = 0) -> Any:
    made = schema.SubGraphT()
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.buffer = b"t", np.array(shape, np.int32), weight
    made.tensors = [tensor]
    made.inputs = made.outputs = np.zeros(1, np.int32)
    made.operators = []
    return made


def test_a_model_of_another_program_is_described_without_a_manifest(tmp_path: Path) -> None:
    inspection = inspect(write_model(tmp_path / "foreign.tflite"), verify=True)
    assert (inspection.manifest, inspection.digests) == (None, "none")
    assert "another program" in inspection.note
    assert inspection.parameters == 100
    (signature,) = inspection.models[0].signatures
    assert (signature.name, signature.inputs[0].name) == ("serve", "x")
    assert signature.inputs[0].shape == (1, 100)
    assert signature.operators == {"ADD": 2, "WHILE": 1}
    assert signature.custom_operators == {"FlexRepeat": 1}
    assert "custom  1 FlexRepeat" in str(inspection)


def test_a_model_without_signatures_shows_its_only_graph(tmp_path: Path) -> None:
    path = write_model(tmp_path / "old.tflite", lambda model: setattr(model, "signatureDefs", None))
    (signature,) = inspect(path).models[0].signatures
    assert (signature.name, signature.outputs[0].name) == (None, "t")


def test_a_dimension_that_the_caller_chooses_is_minus_one(tmp_path: Path) -> None:
    def make_dynamic(model: Any) -> None:
        model.subgraphs[0].tensors[0].shapeSignature = np.array([-1, 100], np.int32)

    inspection = inspect(write_model(tmp_path / "dynamic.tflite", make_dynamic))
    assert inspection.models[0].signatures[0].inputs[0].shape == (-1, 100)


def test_a_bundle_of_another_program_is_described_without_a_manifest(
    litertlm_path: Path, tmp_path: Path
) -> None:
    foreign = tmp_path / "foreign.litertlm"
    data = litertlm_path.read_bytes()
    foreign.write_bytes(data[:16384].replace(b"llm_tflite\0", b"other_tool\0") + data[16384:])
    inspection = inspect(foreign)
    assert (inspection.manifest, inspection.digests) == (None, "none")
    assert inspection.tokenizer == "hf"
    assert inspection.models == inspect(litertlm_path).models
    assert inspection.sections[-1].items == {"other_tool": "manifest"}


# --- hostile files ------------------------------------------------------------------------------


def is_described(path: Path) -> bool:
    """Whatever the file holds, there is an answer that can be printed, or an error of ours."""
    try:
        inspection = inspect(path, verify=True)
    except ArtifactError:
        return False
    json.dumps(inspection.to_dict())
    str(inspection)
    return True


@pytest.mark.parametrize("name", [LITERTLM, TFLITE])
def test_a_file_cut_anywhere_is_refused(artifact: Paths, name: str, tmp_path: Path) -> None:
    path = tmp_path / "cut"
    data = artifact(name).read_bytes()
    for length in [*range(0, 64, 5), *range(64, len(data), len(data) // 80), len(data) - 1]:
        path.write_bytes(data[:length])
        assert not is_described(path)


def test_a_foreign_model_cut_anywhere_is_refused_or_described(tmp_path: Path) -> None:
    path = write_model(tmp_path / "cut.tflite")
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        is_described(path)


def test_altered_bytes_never_give_another_error(
    litertlm_path: Path, tflite_path: Path, tmp_path: Path
) -> None:
    rng = random.Random(0)
    foreign = write_model(tmp_path / "foreign.tflite").read_bytes()
    head = tflite_path.read_bytes()[:100_000]  # the weights are missing, the tables are not
    header = litertlm_path.read_bytes()[:40_000]
    for base, rounds in ((foreign, 1000), (head, 40), (header, 200)):
        for _ in range(rounds):
            data = bytearray(base)
            for _ in range(rng.choice((1, 4))):
                at = rng.randrange(len(data) - 4)
                data[at : at + 4] = rng.choice(
                    (
                        rng.randbytes(4),
                        b"\xff" * 4,
                        bytes(4),
                        rng.randrange(99).to_bytes(4, "little"),
                    )
                )
            path = tmp_path / "altered"
            path.write_bytes(data)
            is_described(path)


@pytest.mark.parametrize("start", [b"", b"\0\0\0\0TFL3", b"LITERTLM\x01", b"PK\x03\x04"])
def test_random_bytes_are_refused(start: bytes, tmp_path: Path) -> None:
    path = tmp_path / "random"
    for seed in range(50):
        path.write_bytes(start + random.Random(seed).randbytes(5000))
        assert not is_described(path)


def _call_itself(model: Any) -> None:
    model.subgraphs[0].operators[0].builtinOptions.bodySubgraphIndex = 0


def test_a_graph_that_calls_itself_is_counted_once(tmp_path: Path) -> None:
    (model,) = inspect(write_model(tmp_path / "loop.tflite", _call_itself)).models
    assert model.signatures[0].operators == {"WHILE": 1}


def _no_graph(model: Any) -> None:
    model.subgraphs = []
    model.signatureDefs = None


def _another_schema(model: Any) -> None:
    model.version = 99


def _missing_graph(model: Any) -> None:
    model.signatureDefs[0].subgraphIndex = 9


def _missing_tensor(model: Any) -> None:
    model.signatureDefs[0].inputs[0].tensorIndex = 9999


def _missing_operation(model: Any) -> None:
    model.subgraphs[1].operators[0].opcodeIndex = 7


def _missing_buffer(model: Any) -> None:
    model.subgraphs[1].tensors[0].buffer = 5


def _buffer_past_the_end(model: Any) -> None:
    model.buffers[1].data = None
    model.buffers[1].offset, model.buffers[1].size = 1 << 40, 1 << 63


def _rank_of_1000(model: Any) -> None:
    model.subgraphs[0].tensors[0].shape = np.full(1000, 2**31 - 1, np.int32)


def _endless_names(model: Any) -> None:
    model.signatureDefs[0].signatureKey = b"x" * (1 << 20)
    model.signatureDefs *= 100


def _name_that_is_not_text(model: Any) -> None:
    model.signatureDefs[0].signatureKey = b"\xff\xfe"


@pytest.mark.parametrize(
    "damage",
    [
        _no_graph,
        _another_schema,
        _missing_graph,
        _missing_tensor,
        _missing_operation,
        _missing_buffer,
        _buffer_past_the_end,
        _rank_of_1000,
        _endless_names,
        _name_that_is_not_text,
    ],
)
def test_what_no_program_writes_is_refused(damage: Callable[[Any], None], tmp_path: Path) -> None:
    path = write_model(tmp_path / "hostile.tflite", damage)
    with pytest.raises(CorruptArtifactError, match=r"hostile\.tflite"):
        inspect(path)


def test_a_small_file_cannot_claim_to_be_very_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repeat(model: Any) -> None:
        model.subgraphs[1].operators = [operator(2)] * 200
        model.subgraphs *= 10

    path = write_model(tmp_path / "bush.tflite", repeat)
    inspect(path)
    monkeypatch.setattr(tflite_model, "_MAX_TABLES", 2000)
    with pytest.raises(CorruptArtifactError, match="2,000 tables"):
        inspect(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match="gone"):
        inspect(tmp_path / "gone.tflite")
    with pytest.raises(ArtifactNotFoundError):
        inspect(tmp_path)
