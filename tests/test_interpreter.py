"""Opening, closing, sharing and running; what generations say is in ``test_generation``."""

from __future__ import annotations

import gc
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from llm_tflite import errors, runtime
from llm_tflite.interpreter import Interpreter
from llm_tflite.sampling import Sampling

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def interpreter(tflite_path):
    with Interpreter(tflite_path, threads=1) as opened:
        yield opened


def decode_inputs(token=5, position=0):
    return {
        "tokens": np.array([[token]], np.int32),
        "input_pos": np.array([position], np.int32),
    }


# --- opening ----------------------------------------------------------------------------------


def test_every_way_of_opening_gives_the_same_tokens(litertlm_path, tflite_path):
    answers = set()
    for source in (litertlm_path, str(tflite_path), tflite_path.read_bytes()):
        with Interpreter(source) as opened:
            answers.add(opened.generate(PROMPT, max_new_tokens=20).token_ids)
    with Interpreter(litertlm_path.read_bytes(), threads=1) as opened:
        answers.add(opened.generate(PROMPT, max_new_tokens=20).token_ids)
    assert len(answers) == 1


@pytest.mark.parametrize("threads", [0, -1, True, 1.0, 100_000])
def test_an_impossible_number_of_threads_is_refused_before_the_file_is_read(threads):
    with pytest.raises(errors.InvalidOptionError, match="threads"):
        Interpreter("nowhere.tflite", threads=threads)


def test_a_missing_file_is_named():
    with pytest.raises(errors.ArtifactNotFoundError, match=r"nowhere\.tflite"):
        Interpreter("nowhere.tflite")


@pytest.mark.parametrize("kind", [".litertlm", ".tflite"])
@pytest.mark.parametrize("place", [0.3, 0.9])
def test_an_altered_file_is_never_run(litertlm_path, tflite_path, tmp_path, kind, place):
    source = {".litertlm": litertlm_path, ".tflite": tflite_path}[kind]
    data = bytearray(source.read_bytes())
    data[int(len(data) * place)] ^= 1
    path = tmp_path / f"altered{kind}"
    path.write_bytes(data)
    for altered in (path, bytes(data)):
        with pytest.raises(errors.CorruptArtifactError):
            Interpreter(altered)


def test_a_manifest_that_promises_another_model_is_refused(variant, litertlm_path):
    with Interpreter(litertlm_path) as opened:
        cache = opened.manifest.cache
    with pytest.raises(errors.IncompatibleArtifactError, match="kv_cache_v_1"):
        Interpreter(variant(cache=cache[:-1]))


def test_a_file_replaced_while_open_leaves_the_open_one_unaffected(tflite_path, tmp_path):
    path = tmp_path / "model.tflite"
    shutil.copy(tflite_path, path)
    with Interpreter(path) as opened:
        before = opened.generate(PROMPT, max_new_tokens=20)
        other = tmp_path / "other"
        other.write_bytes(b"something else")
        other.replace(path)
        assert opened.generate(PROMPT, max_new_tokens=20).token_ids == before.token_ids
    with pytest.raises(errors.CorruptArtifactError):
        Interpreter(path)


def test_the_runtime_prints_nothing_while_opening_and_running(tflite_path, capfd):
    with Interpreter(tflite_path) as opened:
        opened.generate(PROMPT, max_new_tokens=2)
    assert capfd.readouterr().err == ""


def test_what_others_write_while_the_runtime_is_quiet_is_passed_on(capfd):
    with runtime.quiet_stderr():
        subprocess.run(["sh", "-c", "echo INFO: chatter >&2; echo mine >&2"], check=True)
    assert capfd.readouterr().err == "mine\n"


def test_inference_needs_no_tensorflow_and_a_fork_is_noticed(tflite_path):
    program = f"""
import os, sys
from llm_tflite.interpreter import Interpreter
opened = Interpreter({str(tflite_path)!r}, threads=1)
assert len(opened.generate("Hello", max_new_tokens=3).token_ids) == 3
assert not {{"tensorflow", "keras", "keras_hub", "litert_lm_builder"}} & sys.modules.keys()
if hasattr(os, "fork"):
    child = os.fork()
    if child == 0:
        try:
            opened.generate("Hello", max_new_tokens=3)
        except RuntimeError as e:
            os._exit(7 if "forked" in str(e) else 1)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert len(opened.generate("Hello", max_new_tokens=3).token_ids) == 3
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=120)


# --- closing ----------------------------------------------------------------------------------


def test_after_close_every_call_is_refused_and_closing_again_is_not(tflite_path):
    opened = Interpreter(tflite_path, threads=1)
    stream = opened.stream(PROMPT)
    next(stream)
    unstarted = opened.stream(PROMPT)
    opened.close()
    opened.close()
    for call in (
        lambda: opened.generate(PROMPT),
        lambda: opened.stream(PROMPT),
        lambda: opened.score(PROMPT),
        lambda: opened.tokenize(PROMPT),
        lambda: opened.detokenize([1]),
        lambda: opened.run("decode", **decode_inputs()),
        lambda: next(stream),
        lambda: next(unstarted),
    ):
        with pytest.raises(errors.ClosedError):
            call()


# --- sharing ----------------------------------------------------------------------------------


def test_eight_threads_get_what_each_would_get_alone(interpreter):
    requests = [
        (f"{PROMPT} number {i}", Sampling(seed=i, top_k=50) if i % 2 else None) for i in range(80)
    ]

    def answer(request):
        prompt, sampling = request
        return interpreter.generate(prompt, sampling=sampling, max_new_tokens=12).token_ids

    alone = [answer(request) for request in requests]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(answer, requests)) == alone


def test_streams_interleave_in_one_thread(interpreter):
    prompts = ["One", "Two, three", PROMPT, "A longer prompt than all of the others are"]
    alone = [list(interpreter.generate(p, max_new_tokens=10).token_ids) for p in prompts]
    streams = [interpreter.stream(p, max_new_tokens=10) for p in prompts]
    together = [[] for _ in prompts]
    for _ in range(10):
        for stream, tokens in zip(streams, together, strict=True):
            tokens.extend(next(stream).token_ids)
    assert together == alone
    assert [next(stream).finish_reason for stream in streams] == ["length"] * 4


def test_an_abandoned_stream_gives_its_cache_back(interpreter):
    expected = interpreter.generate(PROMPT, max_new_tokens=10).token_ids
    idle = interpreter._engine._states._idle
    for _ in range(5):
        stream = interpreter.stream(PROMPT)
        next(stream)
        held = len(idle)
        del stream
        gc.collect()
        assert len(idle) == held + 1
    assert interpreter.generate(PROMPT, max_new_tokens=10).token_ids == expected


def test_an_interrupt_in_the_middle_leaves_the_next_call_clean(interpreter, monkeypatch):
    expected = interpreter.generate(PROMPT, max_new_tokens=10).token_ids
    run = runtime.RuntimeModel.run
    calls = []

    def interrupted(*arguments):
        run(*arguments)
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runtime.RuntimeModel, "run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            interpreter.generate(PROMPT, max_new_tokens=10)
    assert interpreter.generate(PROMPT, max_new_tokens=10).token_ids == expected


def test_closing_in_the_middle_of_other_threads_work_ends_it_with_an_error(tflite_path):
    opened = Interpreter(tflite_path, threads=1)
    started = threading.Barrier(5)

    def work():
        started.wait()
        while True:
            opened.generate(PROMPT, max_new_tokens=5)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(work) for _ in range(4)]
        started.wait()
        opened.close()
        for future in futures:
            assert isinstance(future.exception(timeout=60), errors.ClosedError)


# --- running one signature --------------------------------------------------------------------


def test_signatures_say_what_run_takes(interpreter):
    assert list(interpreter.signatures) == ["decode", "prefill_16", "prefill_4"]
    decode = interpreter.signatures["decode"]
    assert decode.inputs["tokens"] == runtime.TensorSpec((1, 1), "int32")
    assert decode.outputs["logits"] == runtime.TensorSpec((1, 1, 50257), "float32")


def test_signatures_run_one_by_one_say_what_generate_says(interpreter):
    ids = interpreter.tokenize(PROMPT)
    assert len(ids) == 4
    caches = interpreter.run(
        "prefill_4", tokens=np.array([ids], np.int32), input_pos=np.arange(4, dtype=np.int32)
    )
    caches |= interpreter.run("decode", **decode_inputs(ids[3], 3), **caches)
    logits = caches.pop("logits")
    completion = interpreter.generate(ids, max_new_tokens=1)
    assert completion.token_ids == (int(logits.argmax()),)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"tokens": np.array([[5]], np.int64)}, errors.InvalidOptionError),
        ({"tokens": np.array([5], np.int32)}, errors.InvalidOptionError),
        ({"tokens": [[5]]}, errors.InvalidOptionError),
        ({"tokens": np.array("text")}, errors.InvalidOptionError),
        ({"tokens": np.array([[50257]], np.int32)}, errors.PromptError),
        ({"tokens": np.array([[-1]], np.int32)}, errors.PromptError),
        ({"input_pos": np.array([64], np.int32)}, errors.ContextOverflowError),
        ({"input_pos": np.array([-1], np.int32)}, errors.ContextOverflowError),
        ({"kv_cache_k_0": np.zeros((1, 2, 16, 64), np.float32)}, errors.InvalidOptionError),
        ({"mask": np.zeros(3, np.float32)}, errors.InvalidOptionError),
    ],
)
def test_run_refuses_what_is_not_exactly_the_signature_s(interpreter, change, error):
    with pytest.raises(error):
        interpreter.run("decode", **(decode_inputs() | change))


def test_run_refuses_what_is_missing_or_unknown_or_out_of_place(interpreter):
    with pytest.raises(errors.InvalidOptionError, match="input_pos"):
        interpreter.run("decode", tokens=np.array([[5]], np.int32))
    with pytest.raises(errors.InvalidOptionError, match="prefill_4"):
        interpreter.run("encode")
    tokens = np.ones((1, 4), np.int32)
    for positions in ([61, 62, 63, 64], [0, 1, 2, 2], [3, 2, 1, 0], [0, 0, 0, 0]):
        with pytest.raises(errors.ContextOverflowError, match="input_pos"):
            interpreter.run("prefill_4", tokens=tokens, input_pos=np.array(positions, np.int32))


def test_a_token_only_artifact_takes_and_gives_tokens(variant, interpreter):
    expected = interpreter.generate([464, 2068], max_new_tokens=8)
    with Interpreter(variant(tokenizer=False)) as opened:
        completion = opened.generate([464, 2068], max_new_tokens=8)
        assert completion.token_ids == expected.token_ids
        assert completion.text == ""
        for call in (
            lambda: opened.generate("text"),
            lambda: opened.score("text"),
            lambda: opened.tokenize("text"),
            lambda: opened.detokenize([1]),
        ):
            with pytest.raises(errors.PromptError, match="no tokenizer"):
                call()
        with pytest.raises(errors.InvalidOptionError, match="stop_token_ids"):
            opened.generate([464], stop="x")
