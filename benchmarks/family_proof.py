"""What one family's files say beside Keras: ``python -m benchmarks.family_proof gpt2 FOLDER``.

Prints JSON. Every part that fails leaves its error in the place of its figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

import llm_tflite as lt
from llm_tflite.conversion.agreement import FLOAT_TOLERANCE
from llm_tflite.demo.families import FAMILIES, Family
from llm_tflite.tracing.reference import keras_logits

from .cache_relayouts import cache_relayouts

SEEDS = (0, 1, 2)
NEW_TOKENS = 64
CONTEXT = 128
QUANTIZERS = ("dynamic_range", "int4")
_LADDER = (8, 32)
_PROMPTS = (
    "The capital of France is",
    "Once upon a time, there was a little girl named Lily.",
    "12345 + 67890 =",
)


@dataclass(frozen=True)
class Answer:
    """A prompt and its greedy continuation, as token ids, and the text of the latter."""

    prompt: list[int]
    tokens: list[int]
    text: str


def prove(family: Family, folder: Path) -> dict[str, Any]:
    """Convert a family in every way, and compare each file with Keras."""
    began = perf_counter()
    model = family.make(SEEDS[0], text=True)
    result: dict[str, Any] = {
        "model": type(model).__name__,
        "backbone": type(model.backbone).__name__,
        "special": family.special,
        "parameters": model.count_params(),
        "tokenizer": family.vocabulary,
    }
    answers: list[Answer] = []

    def float32() -> dict[str, Any]:
        figures = []
        for seed in SEEDS:
            seeded = model if seed == SEEDS[0] else family.make(seed, text=True)
            path = _converted(seeded, folder / f"{seed}.litertlm")
            given, agreement = _against_keras(seeded, path)
            answers.extend(given if seed == SEEDS[0] else ())
            figures.append(agreement)
        return _worst(figures)

    first = folder / f"{SEEDS[0]}.litertlm"
    result["float32"] = _attempt(float32)
    if first.exists():
        result["decode"] = _attempt(lambda: _graph(first))
    if answers:
        expected = [_expected(model, answer) for answer in answers]
        result["quantized"] = {
            name: _attempt(lambda name=name: _quantized(model, name, folder, answers, expected))
            for name in QUANTIZERS
        }
        result["official"] = _attempt(lambda: _official(family, first, answers))
    result["layouts"] = {
        layout: _attempt(lambda layout=layout: _layout(family, model, layout, folder))
        for layout in ("forward", "generate")
    }
    result["seconds"] = round(perf_counter() - began, 1)
    return result


def _attempt(part: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return part()
    except Exception as error:  # whatever it is, it belongs in the table
        return {"error": f"{type(error).__name__}: {error}"}


def _converted(model: Any, path: Path, quantizer: str = "none") -> Path:
    lt.Converter(
        model, quantizer=quantizer, context_length=CONTEXT, prefill_lengths=_LADDER
    ).convert(path, overwrite=True)
    return path


def _against_keras(model: Any, path: Path) -> tuple[list[Answer], dict[str, Any]]:
    """Let a file answer every prompt, and Keras read what was written."""
    answers, equal, share, shortfall, distinct = [], 0, 0.0, 0.0, NEW_TOKENS
    with lt.Interpreter(path, threads=1) as interpreter:
        for prompt in _prompts(interpreter):
            completion = interpreter.generate(
                prompt, max_new_tokens=NEW_TOKENS, stop_token_ids=(), context_window=CONTEXT
            )
            answer = Answer(prompt, list(completion.token_ids), completion.text)
            read = answer.prompt + answer.tokens
            expected = _expected(model, answer)
            found = decoded_logits(interpreter, read, len(prompt))
            spread = np.ptp(expected)
            before = expected[len(prompt) - 1 : -1]
            equal += int((before.argmax(-1) == np.array(answer.tokens)).sum())
            ours = np.take_along_axis(before, np.array(answer.tokens)[:, None], -1)[:, 0]
            shortfall = max(shortfall, float((before.max(-1) - ours).max() / spread))
            difference = np.abs(expected[-len(found) :] - found).max()
            share = max(share, float(difference / spread))
            distinct = min(distinct, len(set(answer.tokens)))
            answers.append(answer)
    return answers, {
        "tokens": NEW_TOKENS * len(answers),
        "equal_tokens": equal,
        # Both are the largest, as a share of the range of logits.
        "logit_difference": share,
        "shortfall": shortfall,  # of the token that was written, from Keras' best
        "distinct_tokens": distinct,  # in the answer that has the fewest
    }


def _prompts(interpreter: lt.Interpreter) -> Iterator[list[int]]:
    """The prompts as token ids; random ones where there is no tokenizer."""
    manifest = interpreter.manifest
    start = [] if manifest.tokens.start is None else [manifest.tokens.start]
    for seed, text in enumerate(_PROMPTS):
        if manifest.tokenizer is not None:
            yield start + interpreter.tokenize(text)
        else:
            random = np.random.default_rng(seed)
            yield random.integers(1, manifest.model.vocabulary_size, 12).tolist()


def _expected(model: Any, answer: Answer) -> Any:
    """What Keras says after each token of an answer and its prompt, float32 ``[tokens, V]``."""
    return keras_logits(model, answer.prompt + answer.tokens, prompt_tokens=len(answer.prompt))


def decoded_logits(interpreter: lt.Interpreter, tokens: Sequence[int], prompt_tokens: int) -> Any:
    """What a file says after each token, read one by one: float32 ``[len(tokens), V]``.

    A prefix language model reads the prompt at once; then there are those from its last token on.
    """
    caches: dict[str, Any] = {}
    begin, logits = 0, []
    if interpreter.manifest.model.prefix_prefill:
        begin, caches = prompt_tokens - 1, _read_prompt(interpreter, tokens[:prompt_tokens])
    for position in range(begin, len(tokens)):
        caches = interpreter.run(
            "decode",
            tokens=np.array([[tokens[position]]], np.int32),
            input_pos=np.array([position], np.int32),
            **caches,
        )
        logits.append(caches.pop("logits")[0, 0])
    return np.stack(logits)


def _read_prompt(interpreter: lt.Interpreter, prompt: Sequence[int]) -> dict[str, Any]:
    """The caches behind a prompt that one call reads."""
    facts = interpreter.manifest.model
    length = next(t for t in facts.prefill_lengths if t >= len(prompt))
    tokens, positions = np.zeros((1, length), np.int32), np.zeros(length, np.int32)
    tokens[0, : len(prompt)], positions[: len(prompt)] = prompt, np.arange(len(prompt))
    return interpreter.run(facts.signature_name(length), tokens=tokens, input_pos=positions)


def _worst(figures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "tokens": sum(f["tokens"] for f in figures),
        "equal_tokens": sum(f["equal_tokens"] for f in figures),
        "logit_difference": max(f["logit_difference"] for f in figures),
        "shortfall": max(f["shortfall"] for f in figures),
        "distinct_tokens": min(f["distinct_tokens"] for f in figures),
        "agrees": all(
            f["equal_tokens"] == f["tokens"] and f["logit_difference"] < FLOAT_TOLERANCE
            for f in figures
        ),
    }


def _graph(path: Path) -> dict[str, Any]:
    """The operations of one token, read from the file."""
    (model,) = lt.inspect(path).models
    decode = next(s for s in model.signatures if s.name == "decode")
    return {
        "operations": sum(decode.operators.values()),
        "custom_operations": sorted({n for s in model.signatures for n in s.custom_operators}),
        "cache_relayouts": cache_relayouts(path, CONTEXT),
    }


def _quantized(
    model: Any, quantizer: str, folder: Path, answers: Sequence[Answer], expected: Sequence[Any]
) -> dict[str, Any]:
    """How often a quantized file chooses what Keras does, given the same text."""
    path = _converted(model, folder / f"{quantizer}.litertlm", quantizer)
    with lt.Interpreter(path, threads=1) as interpreter:
        found = [decoded_logits(interpreter, a.prompt + a.tokens, len(a.prompt)) for a in answers]
    ours = np.concatenate(found)
    theirs = np.concatenate([e[-len(f) :] for e, f in zip(expected, found, strict=True)])
    return {
        "tokens": len(ours),
        "equal_tokens": int((ours.argmax(-1) == theirs.argmax(-1)).sum()),
        "correlation": float(np.corrcoef(ours.ravel(), theirs.ravel())[0, 1]),
    }


def _layout(family: Family, model: Any, layout: str, folder: Path) -> dict[str, Any]:
    """The converter compares the file with Keras itself, and raises where they differ."""
    if layout == "generate" and family.vocabulary is None:
        return {"skipped": "no tokenizer that a graph could hold"}
    options = {"layout": layout, "quantizer": "none", "max_length": CONTEXT}
    artifact = lt.Converter(model, **options).convert(folder / f"{layout}.tflite", overwrite=True)
    return {"size_bytes": artifact.size_bytes}


def _official(family: Family, path: Path, answers: Sequence[Answer]) -> dict[str, Any]:
    """How many answers LiteRT-LM's engine gives in the same words, in a process of its own.

    It stops at stop tokens, which these answers may contain: the shorter text decides. With
    SentencePiece it leaves out the space before the first word, as if that began a text.
    """
    if family.vocabulary is None:
        return {"skipped": "no tokenizer in the file"}
    code = """
import json, sys
import litert_lm
litert_lm.set_min_log_severity(litert_lm.LogSeverity.ERROR)
path, prompts, tokens = json.load(sys.stdin)
backend = litert_lm.Backend.CPU(thread_count=1)
options = {"apply_prompt_template": False, "max_output_tokens": tokens}
with litert_lm.Engine(path, backend=backend, cache_dir=":nocache") as engine:
    for prompt in prompts:
        with engine.create_session(**options) as session:
            session.run_prefill([prompt])
            print(json.dumps(session.run_decode().texts[0]))
"""
    child = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps([str(path), list(_PROMPTS), NEW_TOKENS]),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if child.returncode:
        lines = child.stderr.replace(str(path), path.name).strip().splitlines()
        return {"error": lines[-1] if lines else f"ended with {child.returncode}"}
    theirs = [json.loads(line) for line in child.stdout.splitlines()[-len(_PROMPTS) :]]
    pairs = [
        (text.removeprefix(" "), answer.text.removeprefix(" "))
        for text, answer in zip(theirs, answers, strict=True)
    ]
    equal = [bool(a) and (a.startswith(b) or b.startswith(a)) for a, b in pairs]
    return {"texts": len(equal), "equal_texts": sum(equal)}


if __name__ == "__main__":
    print(json.dumps(prove(FAMILIES[sys.argv[1]], Path(sys.argv[2]))))
