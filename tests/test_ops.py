"""Custom operations run through registrars, as TensorFlow runs them; what nobody runs is named."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_inspection import code, graph, operator, write_model
from text_operations import (
    OF_A_STRANGER,
    TEXTS,
    TO_TENSOR,
    Stranger,
    renamed,
    tf_text_library,
    wordpiece,
)

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.registrars.tf_text import TFText
from llm_tflite.text_runtime import TextModel


@pytest.fixture(scope="module")
def of_tensorflow() -> tuple[bytes, np.ndarray]:
    return wordpiece()


@pytest.fixture(scope="module")
def model(of_tensorflow: tuple[bytes, np.ndarray]) -> bytes:
    return of_tensorflow[0]


@pytest.fixture(scope="module")
def expected(of_tensorflow: tuple[bytes, np.ndarray]) -> np.ndarray:
    return of_tensorflow[1]


@pytest.fixture(scope="module")
def of_a_stranger(model: bytes) -> bytes:
    return renamed(model, **{TO_TENSOR: OF_A_STRANGER})


def ids(interpreter: Any) -> np.ndarray:
    found: np.ndarray = interpreter.get_signature_runner()(text=TEXTS)["ids"]
    return found


def write_single(path: Path, *operations: str) -> Path:
    """A model of custom operations, with nothing that their kernels could work on."""

    def change(model: Any) -> None:
        model.operatorCodes = [code(32, operation.encode()) for operation in operations]
        model.subgraphs, model.signatureDefs = [graph([1])], None
        model.subgraphs[0].operators = [operator(i) for i in range(len(operations))]
        for made in model.subgraphs[0].operators:
            made.inputs = made.outputs = np.zeros(1, np.int32)

    return write_model(path, change)


class Registrar:
    """One that covers what its test wants."""

    name = "of_the_test"

    def __init__(
        self, registerers: Callable[[], Any], operations: Sequence[str] = (OF_A_STRANGER,)
    ) -> None:
        self.registerers = registerers
        self.operations = operations

    def describe(self) -> dict[str, str]:
        return {}


# --- what runs ----------------------------------------------------------------------------------


def test_operations_of_tensorflow_text_give_what_tensorflow_gives(
    model: bytes, expected: np.ndarray, tmp_path: Path
) -> None:
    path = tmp_path / "wordpiece.tflite"
    path.write_bytes(model)
    for source in (model, path, str(path)):
        np.testing.assert_array_equal(ids(lt.open_interpreter(source, threads=1)), expected)
    np.testing.assert_array_equal(ids(lt.open_interpreter(model, registrars=["tf_text"])), expected)
    assert expected.shape == (2, 5)


def test_a_graph_of_text_gets_the_kernels_that_it_needs(model: bytes, expected: np.ndarray) -> None:
    graph_of_text = TextModel(model)
    np.testing.assert_array_equal(graph_of_text.call({"text": TEXTS})["ids"], expected)
    graph_of_text.close()


def test_a_registrar_of_a_stranger_runs_beside_the_built_in_one(
    of_a_stranger: bytes, expected: np.ndarray
) -> None:
    interpreter = lt.open_interpreter(of_a_stranger, registrars=("tf_text", Stranger()))
    np.testing.assert_array_equal(ids(interpreter), expected)


def test_a_c_function_is_a_registerer_by_its_name(model: bytes, expected: np.ndarray) -> None:
    def registerers() -> list[str]:
        tf_text_library()
        return ["AddFastWordpieceTokenize", "AddRaggedTensorToTensor"]

    interpreter = lt.open_interpreter(model, registrars=[Registrar(registerers, TFText.operations)])
    np.testing.assert_array_equal(ids(interpreter), expected)


def test_a_model_without_custom_operations_opens_without_registrars(tflite_path: Path) -> None:
    code = (
        "import sys, llm_tflite as lt; lt.open_interpreter(sys.argv[1]).get_signature_list();"
        "print([m for m in ('tensorflow', 'llm_tflite.registrars') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tflite_path], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# Each in a child of its own: a kernel reads operands that are not there, which may end it.
UNRESOLVED = """
import os, sys
from ai_edge_litert.interpreter import InterpreterWithCustomOps
from tensorflow_text import tflite_registrar
added = tflite_registrar.SELECT_TFTEXT_OPS
print(len(added), flush=True)
for path in sys.argv[1:]:
    if os.fork() == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        try:
            InterpreterWithCustomOps(added, model_path=path).allocate_tensors()
        except RuntimeError as error:
            if "unresolved custom op" in str(error):
                print(path, flush=True)
        os._exit(0)
    os.wait()
"""


def test_tf_text_names_exactly_the_operations_that_have_a_kernel(tmp_path: Path) -> None:
    operations = [*TFText.operations, "TFText>PhraseDetokenize"]
    paths = [
        write_single(tmp_path / f"{i}.tflite", operation) for i, operation in enumerate(operations)
    ]
    done = subprocess.run(
        [sys.executable, "-c", UNRESOLVED, *paths], capture_output=True, text=True, check=True
    )
    kernels, *unresolved = done.stdout.split()
    assert int(kernels) == len(set(TFText.operations))
    assert unresolved == [str(paths[-1])]


# --- what does not ------------------------------------------------------------------------------


def test_operations_that_nobody_covers_are_named_before_the_runtime_sees_the_file(
    tmp_path: Path,
) -> None:
    path = write_single(tmp_path / "m.tflite", "TimesTwo", TO_TENSOR, "Aged")
    with pytest.raises(errors.MissingOpsError, match="nobody covers Aged, TimesTwo") as caught:
        lt.open_interpreter(path)
    assert caught.value.names == ("Aged", "TimesTwo")
    assert "llm_tflite_register_custom_ops" in str(caught.value)
    assert TO_TENSOR not in str(caught.value)
    assert isinstance(caught.value, errors.IncompatibleArtifactError)
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.names) == (str(caught.value), caught.value.names)


def test_an_operation_of_tensorflow_text_without_a_kernel_is_told_apart(tmp_path: Path) -> None:
    for operation in ("TFText>PhraseDetokenize", "SentencepieceTokenizeOp"):
        path = write_single(tmp_path / "m.tflite", operation)
        with pytest.raises(errors.MissingOpsError, match="tensorflow-text has TFLite kernels for"):
            lt.open_interpreter(path)


def test_a_thousand_missing_operations_make_a_short_message(tmp_path: Path) -> None:
    path = write_single(tmp_path / "m.tflite", *(f"{i:04}" + "x" * 1000 for i in range(1000)))
    with pytest.raises(errors.MissingOpsError, match="and 990 more") as caught:
        lt.open_interpreter(path)
    assert len(str(caught.value)) < 2000
    assert len(caught.value.names) == 1000


def test_a_registrar_that_was_not_passed_is_pointed_to(model: bytes) -> None:
    with pytest.raises(errors.MissingOpsError, match=r"but not passed: tf_text$"):
        lt.open_interpreter(model, registrars=[Stranger()])
    with pytest.raises(errors.MissingOpsError, match="FastWordpieceTokenizeWithOffsets"):
        lt.open_interpreter(model, registrars=[])


def test_operations_of_tensorflow_are_named_with_the_release_that_runs_them() -> None:
    model, _ = wordpiece(lower=True)
    with pytest.raises(errors.MissingOpsError, match=r"tensorflow==2\.18\.1") as caught:
        lt.open_interpreter(model)
    assert caught.value.names == ("FlexRaggedTensorToTensor", "FlexStringLower")
    assert "FlexStringLower" in str(caught.value)


def test_names_of_operations_are_quoted_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    path = write_single(tmp_path / "m.tflite", "Flex{found}%s{0}")
    with pytest.raises(errors.MissingOpsError, match=r"\(Flex\{found\}%s\{0\}\).* no TensorFlow"):
        lt.open_interpreter(path)


def test_a_machine_without_tensorflow_text_is_told_the_package(
    model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tensorflow_text", None)
    with pytest.raises(errors.MissingDependencyError, match="needs the package tensorflow-text"):
        lt.open_interpreter(model)


def test_two_registrars_of_one_operation_are_both_named(model: bytes) -> None:
    rival = Registrar(list, [TO_TENSOR])
    with pytest.raises(errors.PluginConflictError, match="'tf_text' and 'of_the_test'"):
        lt.open_interpreter(model, registrars=["tf_text", rival])


def test_a_c_function_that_does_not_exist_is_named_with_its_registrar(of_a_stranger: bytes) -> None:
    registrars = ["tf_text", Registrar(lambda: ["AddNothingAtAll"])]
    with pytest.raises(errors.PluginError, match="the C function 'AddNothingAtAll'") as caught:
        lt.open_interpreter(of_a_stranger, registrars=registrars)
    assert "the registrar 'of_the_test'" in str(caught.value)


def fail(address: int = 0) -> None:
    raise SystemExit(f"at {address > 0}")


@pytest.mark.parametrize(
    ("registerers", "complaint"),
    [
        (fail, r"failed on registerers\(\): SystemExit: at False"),
        (lambda: [fail], "failed on adding its kernels: SystemExit: at True"),
        (lambda: [lambda: None], "failed on adding its kernels: TypeError"),
        (lambda: None, r"failed on registerers\(\): TypeError"),
        (lambda: "AddAll", "must return a list .* got 'AddAll'"),
        (lambda: [7], r"must return a list .* got \[7\]"),
    ],
)
def test_a_registrar_that_fails_is_named(
    of_a_stranger: bytes, registerers: Callable[[], Any], complaint: str
) -> None:
    with pytest.raises(errors.PluginError, match=f"'of_the_test' {complaint}"):
        lt.open_interpreter(of_a_stranger, registrars=["tf_text", Registrar(registerers)])


@pytest.mark.parametrize(
    ("registrars", "complaint"),
    [
        ("tf_text", "must be a list of names"),
        (7, "must be a list of names"),
        ([7], "the name of this int is None"),
        ([Stranger], "got the class Stranger"),
        ([Registrar(list, "TimesTwo")], "operations is 'TimesTwo'"),
        ([Registrar(list, [])], "covers nothing"),
        ([Registrar(list, [b"TimesTwo"])], "holds b'TimesTwo'"),
    ],
)
def test_what_is_no_list_of_registrars_is_refused(
    model: bytes, registrars: Any, complaint: str
) -> None:
    with pytest.raises(errors.InvalidOptionError, match=complaint):
        lt.open_interpreter(model, registrars=registrars)


def test_a_misspelt_registrar_gets_a_suggestion(model: bytes) -> None:
    with pytest.raises(errors.UnknownPluginNameError, match="did you mean 'tf_text'"):
        lt.open_interpreter(model, registrars=["tftext"])


def test_a_file_that_is_no_model_is_refused(
    model: bytes, litertlm_path: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.CorruptArtifactError, match=litertlm_path.name):
        lt.open_interpreter(litertlm_path)
    with pytest.raises(errors.CorruptArtifactError):
        lt.open_interpreter(model[: len(model) // 2])
    with pytest.raises(errors.ArtifactNotFoundError):
        lt.open_interpreter(tmp_path / "absent.tflite")
    with pytest.raises(errors.InvalidOptionError, match="threads"):
        lt.open_interpreter(model, threads=0)


# --- what inspect says --------------------------------------------------------------------------


def test_inspect_says_who_runs_each_custom_operation(tmp_path: Path) -> None:
    path = write_single(tmp_path / "m.tflite", "TimesTwo", TO_TENSOR, "FlexRepeat")
    inspection = lt.inspect(path)
    assert [(o.name, o.registrars) for o in inspection.custom_operations] == [
        ("FlexRepeat", ()),
        (TO_TENSOR, ("tf_text",)),
        ("TimesTwo", ()),
    ]
    assert inspection.custom_operations[1].description == {"package": "tensorflow-text"}
    assert inspection.to_dict()["custom_operations"][1]["registrars"] == ("tf_text",)
    assert str(inspection).splitlines()[-4:] == [
        "custom operations",
        "  FlexRepeat: TensorFlow with the Flex delegate",
        f"  {TO_TENSOR}: registrar tf_text, package tensorflow-text",
        "  TimesTwo: no registrar covers it",
    ]


def test_an_interpreter_of_texts_points_strangers_files_to_open_interpreter(
    model: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(model)
    with pytest.raises(errors.IncompatibleArtifactError, match=r"llm_tflite\.open_interpreter"):
        lt.Interpreter(path)
