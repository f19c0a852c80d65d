"""The ``generate`` layout: one file, one signature, the text of Keras' own ``generate``."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import CONTEXT, tiny_gpt2

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.safety import ProfanityFilter

PROMPTS = [
    "I'm enjoying a",
    "The capital of France is",
    "def f(x):\n    return x**2  # don't\n",
    '{"a": [1, 2, {"b": null}]}',
    "你好，世界！今天天气很好。",
    "مرحبا بالعالم",
    "😀👍🏽 I ❤️ you 🇺🇸",
    "  two  spaces \t\n\n  and more   ",
    "\n",
    "1234567890 3.14159 ½ ٣٤٥",
    "",
    "A",
    "<|endoftext|>",
    "a<|endoftext|>b <|endoftext",
    "Привет, мир. Ça va? naïve café",
    "a\x00b",
    "don't can't we'll 'S it\u2019s",
    "!?" * 10,
    "word " * (CONTEXT - 1),
    "word " * (4 * CONTEXT),
]


@pytest.fixture(scope="module")
def model() -> Any:
    model = tiny_gpt2(seed=3)
    model.compile(sampler="greedy")
    return model


@pytest.fixture(scope="module")
def path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(model, tmp_path_factory.mktemp("generate") / "autocomplete.tflite")


@pytest.fixture(scope="module")
def sampling_path(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return convert(
        model,
        tmp_path_factory.mktemp("generate") / "sampling.tflite",
        sampling=lt.Sampling(temperature=0.7, top_k=20),
    )


def convert(model: Any, path: Path, **options: Any) -> Path:
    options = {"quantizer": "none", "max_length": CONTEXT} | options
    lt.Converter(model, layout="generate", **options).convert(path)
    return path


PLAIN_RUN = """
import json, sys
sys.modules["tensorflow"] = sys.modules["llm_tflite"] = None  # importing either is an error
import numpy as np
from ai_edge_litert.interpreter import Interpreter
runner = Interpreter(model_path=sys.argv[1]).get_signature_runner()
texts = []
for prompt in json.load(sys.stdin):
    prompt = np.frombuffer(prompt.encode() + b"\\0", np.uint8)
    text = runner(prompt=prompt)["text"]
    assert text.dtype == np.uint8 and text[-1] == 0
    texts.append(text[:-1].tobytes().decode("utf-8", "replace"))
json.dump([list(runner.get_output_details()), texts], sys.stdout)
"""


def run_plainly(path: Path, prompts: list[str], python: str = sys.executable) -> list[str]:
    """Run a file with nothing but ai-edge-litert and NumPy."""
    child = subprocess.run(
        [python, "-I", "-c", PLAIN_RUN, path],  # -I: with what is installed there, and no more
        input=json.dumps(prompts),
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    outputs, texts = json.loads(child.stdout.splitlines()[-1])
    assert outputs == ["text"]
    return list(texts)


def test_the_plain_runtime_gives_the_text_of_keras(model: Any, path: Path) -> None:
    expected = [model.generate(prompt, max_length=CONTEXT) for prompt in PROMPTS]
    assert run_plainly(path, PROMPTS) == expected
    assert len(set(expected)) == len(PROMPTS) - 1  # both long prompts are cut to the same


def test_one_signature_of_builtin_operations_and_each_weight_once(path: Path) -> None:
    inspection = lt.inspect(path)
    (found,) = inspection.models
    assert [signature.name for signature in found.signatures] == ["serving_default"]
    from llm_tflite.flatbuffer.model import parse

    flatbuffer = parse(path.read_bytes())
    assert all(code.customCode is None for code in flatbuffer.operatorCodes)
    spans = [(b.offset, b.size) for b in flatbuffer.buffers if b.offset > 1]
    assert len(set(spans)) == len(spans)
    # The embedding, which both loops read and which is the head as well.
    largest = max(range(len(flatbuffer.buffers)), key=lambda i: flatbuffer.buffers[i].size)
    users = [g for g in flatbuffer.subgraphs if any(t.buffer == largest for t in g.tensors)]
    assert len(users) == 2


def test_an_answer_ends_with_a_stop_token(model: Any, tmp_path: Path) -> None:
    stopping = tiny_gpt2(seed=3)
    stopping.compile(sampler="greedy")
    prompt = PROMPTS[0]
    written = model.generate(prompt, max_length=CONTEXT)
    # What the model writes after a while becomes what the end of a text looks like to it.
    with lt.Interpreter(convert(model, tmp_path / "a.tflite")) as interpreter:
        tokens = interpreter.generate(prompt).token_ids
    table = stopping.backbone.token_embedding.embeddings
    values = np.asarray(table.value).copy()
    end = stopping.preprocessor.tokenizer.end_token_id
    values[[end, tokens[9]]] = values[[tokens[9], end]]
    table.assign(values)
    expected = stopping.generate(prompt, max_length=CONTEXT)
    assert len(expected) < len(written)
    with lt.Interpreter(convert(stopping, tmp_path / "b.tflite")) as interpreter:
        completion = interpreter.generate(prompt)
    assert completion.finish_reason == "stop"
    assert prompt + completion.text == expected
    assert run_plainly(tmp_path / "b.tflite", [prompt]) == [expected]


def test_the_interpreter_treats_it_like_any_other_file(model: Any, path: Path) -> None:
    prompt = PROMPTS[0]
    expected = model.generate(prompt, max_length=CONTEXT)
    with lt.Interpreter(path, threads=1) as interpreter:
        whole = interpreter.generate(prompt)
        assert prompt + whole.text == expected
        assert (whole.finish_reason, whole.prompt_tokens) == ("context", 5)
        assert len(whole.token_ids) == CONTEXT - whole.prompt_tokens
        assert "".join(chunk.text for chunk in interpreter.stream(prompt)) == whole.text
        ids = [50256, *interpreter.tokenize(prompt)]
        assert interpreter.generate(ids).token_ids == whole.token_ids
        short = interpreter.generate(prompt, max_new_tokens=4)
        assert (short.token_ids, short.finish_reason) == (whole.token_ids[:4], "length")
        stop = whole.text[12:20]
        stopped = interpreter.generate(prompt, stop=stop)
        assert stopped.text == whole.text[: whole.text.index(stop)]
        by_token = interpreter.generate(prompt, stop_token_ids=[whole.token_ids[6]])
        assert by_token.token_ids == whole.token_ids[: whole.token_ids.index(whole.token_ids[6])]
        with pytest.raises(errors.ContextOverflowError, match="window holds 32"):
            interpreter.generate("word " * CONTEXT)
        trimmed = interpreter.generate("word " * CONTEXT, trim_prompt=True)
        assert trimmed.prompt_tokens == CONTEXT // 2
        full = interpreter.generate([50256] + [464] * (CONTEXT - 1), context_window=CONTEXT)
        assert (full.text, full.finish_reason) == ("", "context")
        text = interpreter.run("serving_default", prompt=np.frombuffer(b"A\0", np.uint8))["text"]
        assert text.tobytes()[:-1].decode() == model.generate("A", max_length=CONTEXT)


def test_it_stays_in_its_container(path: Path, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidOptionError, match="LiteRT-LM runs the layout"):
        lt.Artifact.open(path).save_as(tmp_path / "m.litertlm")
    copied = lt.Artifact.open(path).save_as(tmp_path / "m.tflite").path
    assert copied is not None
    assert copied.read_bytes() == path.read_bytes()
    assert [child.name for child in tmp_path.iterdir()] == ["m.tflite"]


def test_what_the_file_cannot_do_is_refused(path: Path) -> None:
    with lt.Interpreter(path, threads=1) as interpreter:
        with pytest.raises(errors.InvalidOptionError, match="no logits"):
            interpreter.generate("A", logprobs=1)
        with pytest.raises(errors.InvalidOptionError, match="no logits"):
            interpreter.score("A B")
        with pytest.raises(errors.InvalidOptionError, match="cannot choose tokens with"):
            interpreter.generate("A", sampling=lt.Sampling(temperature=0.7, top_k=20))
        with pytest.raises(errors.PromptError, match="allow_special_tokens"):
            interpreter.generate("a<|endoftext|>b")
        with pytest.raises(errors.PromptError, match="allow_special_tokens"):
            interpreter.generate([464, 2068])  # without the start token
        answer = interpreter.generate("a<|endoftext|>b", allow_special_tokens=True)
        assert answer.prompt_tokens == 4
        for arrays in (
            {},
            {"prompt": np.zeros(3, np.int32)},
            {"prompt": np.zeros((1, 3), np.uint8)},
        ):
            with pytest.raises(errors.InvalidOptionError):
                interpreter.run("serving_default", **arrays)
    with pytest.raises(errors.ClosedError):
        interpreter.generate("A")


def test_sampling_follows_the_seed(model: Any, sampling_path: Path) -> None:
    made = {"temperature": 0.7, "top_k": 20}
    with lt.Interpreter(sampling_path, threads=1) as interpreter:
        first, again, other = (
            interpreter.generate("A", sampling=lt.Sampling(**made, seed=seed)).text
            for seed in (1, 1, 2)
        )
        assert first == again != other
        interpreter.generate("A")  # any seed
        with pytest.raises(errors.InvalidOptionError, match="cannot choose tokens with"):
            interpreter.generate("A", sampling=lt.Sampling.greedy())
        best = interpreter.run(
            "serving_default",
            prompt=np.frombuffer(b"A\0", np.uint8),
            noise=np.zeros(CONTEXT, np.float32),
        )["text"]
    assert best.tobytes()[:-1].decode() == model.generate("A", max_length=CONTEXT)


@pytest.mark.parametrize("quantizer", ["float16", "dynamic_range", "weight_only_int8", "int4"])
def test_every_quantizer_serves_the_loops(model: Any, tmp_path: Path, quantizer: str) -> None:
    path = convert(model, tmp_path / "m.tflite", quantizer=quantizer)
    check = lt.Artifact.open(path).manifest.check
    assert check is not None
    assert check["greedy"]["mean_regret"] < 0.3
    assert check["greedy"]["equal_tokens"] > 0


def test_the_same_model_gives_the_same_bytes(model: Any, path: Path, tmp_path: Path) -> None:
    assert convert(model, tmp_path / "again.tflite").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("length", [2, 3, 37, CONTEXT - 1])
def test_any_length_is_kept(model: Any, tmp_path: Path, length: int) -> None:
    path = convert(model, tmp_path / "m.tflite", max_length=length)
    expected = [model.generate(prompt, max_length=length) for prompt in PROMPTS[:4]]
    assert run_plainly(path, PROMPTS[:4]) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_length": 1}, "from 2"),
        ({"max_length": 2.0}, "from 2"),
        ({"max_length": CONTEXT + 1}, f"{CONTEXT} positions"),
        ({"text": "utf-16"}, "text must be"),
        ({"context_length": CONTEXT}, "belongs to prefill_decode"),
        ({"sampling": lt.Sampling(temperature=1.0)}, "top_k"),
        ({"sampling": lt.Sampling(temperature=1.0, top_k=3, seed=1)}, "a seed belongs to the run"),
        ({"sampling": lt.Sampling(temperature=1.0, top_k=3, top_p=0.5)}, "got top_p=0.5"),
    ],
)
def test_options_that_no_file_could_honour(model: Any, options: Any, message: str) -> None:
    with pytest.raises(errors.InvalidOptionError, match=message):
        lt.Converter(model, layout="generate", **options)


def test_it_needs_a_tokenizer_and_a_tflite_path(model: Any, tmp_path: Path) -> None:
    with pytest.raises(errors.InvalidOptionError, match=r"must end in \.tflite"):
        convert(model, tmp_path / "m.litertlm")
    with pytest.raises(errors.InvalidOptionError, match="it belongs to generate"):
        lt.Converter(model, max_length=8)
    with pytest.raises(errors.InvalidOptionError, match="layout must be one of"):
        lt.Converter(model, layout="decode")
    preprocessor, model.preprocessor = model.preprocessor, None
    try:
        with pytest.raises(errors.UnsupportedModelError, match="preprocessor"):
            lt.Converter(model, layout="generate")
    finally:
        model.preprocessor = preprocessor
    assert not list(tmp_path.iterdir())


def test_a_tokenizer_graph_that_differs_is_noticed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_tflite.tokenizers import ByteLevelTokenizer

    original = ByteLevelTokenizer.encode

    def other(self: ByteLevelTokenizer, text: str, **options: Any) -> list[int]:
        return [65 if token == 64 else token for token in original(self, text, **options)]

    monkeypatch.setattr(ByteLevelTokenizer, "encode", other)
    with pytest.raises(errors.DisagreementError, match="tokenizer's graph reads"):
        convert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_a_model_that_changed_is_noticed(
    model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_tflite.conversion import check_text

    def other_logits(_: Any, tokens: Any) -> Any:
        logits = np.zeros((len(tokens), 50257), np.float32)
        logits[:, 1] = 1
        return logits

    monkeypatch.setattr(check_text, "keras_logits", other_logits)
    with pytest.raises(errors.DisagreementError, match="0 of"):
        convert(model, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


def test_the_tokens_of_the_authors_are_those_of_the_graph_too(model: Any, tmp_path: Path) -> None:
    text = "one\n\ntwo  three"
    paths = {
        "generate": convert(model, tmp_path / "g.tflite", tokenization="original"),
        "prefill_decode": tmp_path / "p.tflite",
    }
    lt.Converter(model, context_length=CONTEXT, quantizer="none", tokenization="original").convert(
        paths["prefill_decode"]
    )
    ids = {}
    for layout, path in paths.items():
        with lt.Interpreter(path) as interpreter:
            assert interpreter.manifest.tokenizer.behaviour == "original"
            ids[layout] = interpreter.tokenize(text)
    assert ids["generate"] == ids["prefill_decode"]
    assert ids["generate"] != [int(t) for t in np.asarray(model.preprocessor.tokenizer(text))]
    # The graph reads the prompt, and the answer begins where these tokens end.
    with lt.Interpreter(paths["generate"]) as interpreter:
        assert interpreter.generate(text).prompt_tokens == len(ids["generate"]) + 1


def test_a_text_filter_ends_the_answer_of_a_graph(path: Path) -> None:
    with lt.Interpreter(path, threads=1) as interpreter:
        text = interpreter.generate("The capital of France is").text
    word = re.search(r"(?<= )[A-Za-z]{4,}(?= )", text)
    assert word is not None, text
    words = ProfanityFilter([word.group()])
    with lt.Interpreter(path, threads=1, text_filters=[words]) as interpreter:
        chunks = list(interpreter.stream("The capital of France is"))
    completion = chunks[-1].completion
    assert completion is not None
    assert completion.finish_reason == "filtered"
    assert completion.text == text[: words.find(text).start]
    assert completion.text == "".join(chunk.text for chunk in chunks)
