"""``llm-tflite android``: what the app can run is put in place, whole or not at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from llm_tflite.android import app_runtime, check_suitable, place, suitability
from llm_tflite.android.runtime_version import CATALOG, AppRuntime, check_runtime
from llm_tflite.artifact import Artifact
from llm_tflite.bundle.tflite_model import ModelInfo, SignatureInfo
from llm_tflite.cli import run
from llm_tflite.errors import (
    ArtifactExistsError,
    ArtifactNotFoundError,
    CorruptArtifactError,
    IncompatibleArtifactError,
    InvalidOptionError,
)
from llm_tflite.manifest import TextFacts
from llm_tflite.tokenizers import ByteLevelTokenizer

ASSETS = "app/src/main/assets"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An Android project, as far as a model is concerned."""
    folder = tmp_path / "android_app"
    (folder / "app/src/main").mkdir(parents=True)
    (folder / "app/src/main/AndroidManifest.xml").write_text("<manifest/>")
    write_catalog(
        folder, 'litert = { module = "com.google.ai.edge.litert:litert", version = "1.4.0" }'
    )
    return folder


def write_catalog(folder: Path, libraries: str, versions: str = "") -> None:
    path = folder / CATALOG
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"[versions]\n{versions}\n[libraries]\n{libraries}\n")


def assets(app: Path) -> list[str]:
    return sorted(path.name for path in (app / ASSETS).glob("*"))


def test_a_model_is_copied_under_the_name_that_the_app_looks_for(
    app: Path, tflite_path: Path, litertlm_path: Path
) -> None:
    placement = place(tflite_path, app)
    assert placement.path == app / ASSETS / "autocomplete.tflite"
    assert placement.path.read_bytes() == tflite_path.read_bytes()
    assert str(placement.runtime) == "com.google.ai.edge.litert:litert:1.4.0"
    assert placement.replaced == ()
    manifest = Artifact.open(tflite_path).manifest
    assert placement.memory_bytes == tflite_path.stat().st_size + manifest.cache_bytes
    with pytest.raises(ArtifactExistsError, match=r"autocomplete\.tflite exists"):
        place(litertlm_path, app)
    assert assets(app) == ["autocomplete.tflite"]
    # One model at a time, so that nobody wonders which of them runs.
    placement = place(litertlm_path, app, overwrite=True)
    assert placement.replaced == ("autocomplete.tflite",)
    assert assets(app) == ["autocomplete.litertlm"]
    assert placement.path.read_bytes() == litertlm_path.read_bytes()
    with pytest.raises(ArtifactExistsError, match="in place already"):
        place(placement.path, app, overwrite=True)
    place(tflite_path, app, overwrite=True)
    assert assets(app) == ["autocomplete.tflite"]


def test_the_container_counts_and_not_the_name(
    app: Path, litertlm_path: Path, tmp_path: Path
) -> None:
    odd = tmp_path / "model.bin"
    shutil.copyfile(litertlm_path, odd)
    assert place(odd, app).path.name == "autocomplete.litertlm"


def test_what_is_no_android_project_is_refused_before_the_model_is_read(tmp_path: Path) -> None:
    with pytest.raises(InvalidOptionError, match=r"expected the folder of the Android project"):
        place(tmp_path / "absent.tflite", tmp_path)


@pytest.mark.parametrize("how", ["absent", "folder", "text", "cut", "changed", "foreign"])
def test_a_file_that_cannot_be_used_leaves_nothing(
    app: Path, tflite_path: Path, tmp_path: Path, how: str, hand_made_model: bytes
) -> None:
    file = tmp_path / "model.tflite"
    data = bytearray(tflite_path.read_bytes())
    error: type[Exception] = CorruptArtifactError
    if how == "absent":
        error = ArtifactNotFoundError
    elif how == "folder":
        file.mkdir()
        error = ArtifactNotFoundError
    elif how == "text":
        file.write_text("not a model")
    elif how == "cut":
        file.write_bytes(data[:-1000])
    elif how == "foreign":
        file.write_bytes(hand_made_model)
        error = IncompatibleArtifactError
    else:
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    with pytest.raises(error):
        place(file, app)
    assert not (app / ASSETS).exists()


@pytest.fixture
def hand_made_model() -> bytes:
    """A TFLite model that nobody vouches for."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT()
    model.version = 3
    model.subgraphs = [schema.SubGraphT()]
    model.buffers = [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"layout": "forward"}, "expected a layout that writes text"),
        (
            {"layout": "generate", "text": TextFacts("string", False, 1, 0.0)},
            "it takes a tensor of strings",
        ),
        (
            {"layout": "generate", "text": TextFacts("bytes", False, 1, 0.0)},
            "expected the signature 'serving_default' with a 'prompt' of uint8",
        ),
        ({"tokenizer": False}, "expected a tokenizer; it has none"),
    ],
    ids=["forward", "string", "no such signature", "no tokenizer"],
)
def test_a_file_that_the_app_does_not_run_is_refused(
    app: Path, variant: Any, changes: dict[str, Any], complaint: str
) -> None:
    file = variant(**changes)
    with pytest.raises(IncompatibleArtifactError, match=f"the app cannot run it: .*{complaint}"):
        place(file, app)
    assert not (app / ASSETS).exists()


def test_a_file_without_the_signatures_that_it_promises_is_refused(
    variant: Any, tflite_path: Path
) -> None:
    import dataclasses

    model = Artifact.open(tflite_path).manifest.model
    file = variant(model=dataclasses.replace(model, prefill_lengths=(4, 16, 33)))
    with pytest.raises(IncompatibleArtifactError, match="it lacks prefill_33"):
        check_suitable(file)


def test_operations_that_the_app_lacks_are_named(
    tflite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signature = SignatureInfo("decode", (), (), {"ADD": 1}, {"FlexErf": 1, "MyOp": 2})
    model = ModelInfo((signature,), (), 0, {"ADD": 5, "FULLY_CONNECTED": 99, "SIN": 2})
    assert list(suitability._operation_problems(model)) == [
        "expected builtin operations only; it has FlexErf, MyOp",
        "expected FULLY_CONNECTED up to version 13; it has version 99",
        "expected SIN up to version 1; it has version 2",
    ]
    check_suitable(tflite_path)
    monkeypatch.setattr(suitability, "LARGEST_BYTES", 1000)
    with pytest.raises(IncompatibleArtifactError, match="expected at most 1,000 bytes; it has"):
        check_suitable(tflite_path)


def test_a_tokenizer_that_the_app_lacks_is_named(
    tflite_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Artifact.open(tflite_path).tokenizer().algorithm == "BPE"
    load = ByteLevelTokenizer.__init__

    def other(self: ByteLevelTokenizer, data: bytes) -> None:
        load(self, data)
        self.algorithm = "WordPiece"

    monkeypatch.setattr(ByteLevelTokenizer, "__init__", other)
    with pytest.raises(IncompatibleArtifactError, match="as the app has them; it has WordPiece"):
        check_suitable(tflite_path)


# --- the app's runtime ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("libraries", "versions", "expected"),
    [
        ('a = "com.google.ai.edge.litert:litert:1.4.0"', "", "1.4.0"),
        ('a = { module = "com.google.ai.edge.litert:litert", version = "2.1.5" }', "", "2.1.5"),
        (
            'a.group = "com.google.ai.edge.litert"\na.name = "litert"\na.version.ref = "lite"',
            'lite = "1.3.0"',
            "1.3.0",
        ),
        (
            'a = { module = "com.google.ai.edge.litert:litert", version.ref = "lite" }',
            'lite = { strictly = "1.4.1" }',
            "1.4.1",
        ),
        (
            'b = "org.tensorflow:tensorflow-lite:2.16.1"\n'
            'a = { module = "com.google.ai.edge.litert:litert", version = "1.4.0" }',
            "",
            "1.4.0",
        ),
        ('a = "junit:junit:4.13.2"', "", None),
    ],
    ids=["one string", "module", "group and name", "strictly", "beside the old one", "none"],
)
def test_the_runtime_is_read_from_the_version_catalog(
    app: Path, libraries: str, versions: str, expected: str | None
) -> None:
    write_catalog(app, libraries, versions)
    runtime = app_runtime(app)
    assert (runtime and runtime.version) == expected


@pytest.mark.parametrize(
    "text",
    [
        "[libraries",
        "libraries = 5",
        "[libraries]\na = 5",
        '[libraries]\na = { module = "com.google.ai.edge.litert:litert", version.ref = "x" }',
        "\udcff",
    ],
    ids=["no TOML", "no table", "no library", "no such version", "no text"],
)
def test_a_catalog_that_cannot_be_read_is_refused(app: Path, text: str, tflite_path: Path) -> None:
    (app / CATALOG).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(InvalidOptionError, match="expected a version catalog"):
        place(tflite_path, app)
    assert not (app / ASSETS).exists()


@pytest.mark.parametrize(
    "runtime",
    [
        "com.google.ai.edge.litert:litert:1.2.0",
        "com.google.ai.edge.litert:litert:1.0",
        "com.google.ai.edge.litert:litert:latest",
        "com.google.ai.edge.litert:litert:",
        "org.tensorflow:tensorflow-lite:2.16.1",
    ],
)
def test_a_runtime_that_computes_something_else_is_refused(runtime: str) -> None:
    module, _, version = runtime.rpartition(":")
    with pytest.raises(IncompatibleArtifactError, match=r"litert:1\.3\.0 or later; .* names"):
        check_runtime(AppRuntime(module, version))


@pytest.mark.parametrize("version", ["1.3.0", "1.4", "1.4.0-alpha01", "2.1.5", "10.0.0"])
def test_later_runtimes_are_taken(version: str) -> None:
    check_runtime(AppRuntime("com.google.ai.edge.litert:litert", version))


def test_the_app_of_this_project_has_a_runtime_that_is_taken() -> None:
    project = Path(__file__).parent.parent / "android_app"
    if not (project / CATALOG).exists():
        pytest.skip("the app is not here")
    runtime = app_runtime(project)
    assert runtime is not None
    check_runtime(runtime)


# --- on the command line ----------------------------------------------------------------------


def test_the_command_says_what_is_in_place_and_what_to_do_next(
    command: Any, app: Path, tflite_path: Path
) -> None:
    code, out, _ = command("android", tflite_path, "--app", app)
    assert code == 0
    assert out.splitlines()[0] == str(app / ASSETS / "autocomplete.tflite")
    assert "runtime  com.google.ai.edge.litert:litert:1.4.0" in out
    assert f"Next: open {app} in Android Studio" in out
    code, _, err = command("android", tflite_path, "--app", app)
    assert code == 1
    assert "exists; pass --overwrite to replace it" in err
    (app / CATALOG).unlink()
    code, out, _ = command("android", tflite_path, "--app", app, "--overwrite")
    assert "not named in the version catalog, so not checked" in out
    assert "instead of autocomplete.tflite" in out
    code, out, _ = command("android", tflite_path, "--app", app, "--overwrite", "--json")
    facts = json.loads(out)
    assert facts["replaced"] == ["autocomplete.tflite"]
    assert facts["layout"] == "prefill_decode"
    assert run(["android", str(tflite_path)]) == 2
