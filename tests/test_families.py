"""Every family of KerasHub's causal language models: it converts and agrees."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.conversion.agreement import FLOAT_TOLERANCE
from llm_tflite.demo.families import FAMILIES, Family
from llm_tflite.tracing.cached_paths import differences
from llm_tflite.tracing.reference import keras_logits

CONTEXT = 64
NEW_TOKENS = 16
PROMPT = [5, 17, 33, 101, 7, 64, 12, 90, 3, 44, 28, 71]
OPTIONS: dict[str, Any] = {
    "quantizer": "none",
    "context_length": CONTEXT,
    "prefill_lengths": (8,),
}

# Weights whose answer to the prompt does not repeat one token.
SEEDS = {"gemma3n": 1}

# Classes of KerasHub that are named so and decode no text of their own.
NO_DECODERS = {
    "CausalLM": "the base class",
    "BLIP2CausalLM": "writes about an image",
    "PARSeqCausalLM": "reads letters off an image",
    "Gemma4AssistantCausalLM": "drafts for a larger model and reads that model's cache",
}


def convert(model: Any, path: Path) -> Path:
    lt.Converter(model, **OPTIONS).convert(path)
    return path


def agreement(model: Any, path: Path) -> list[int]:
    """Greedy tokens of the file, which must be what Keras chooses after the same text.

    A text that is scored has no prompt, which is another text to a prefix language model.
    """
    with lt.Interpreter(path, threads=1) as interpreter:
        tokens = interpreter.generate(
            PROMPT, max_new_tokens=NEW_TOKENS, stop_token_ids=()
        ).token_ids
        scored = interpreter.score([*PROMPT, *tokens]).tokens
    logits = keras_logits(model, [*PROMPT, *tokens], prompt_tokens=len(PROMPT))[:-1]
    assert logits[len(PROMPT) - 1 :].argmax(-1).tolist() == list(tokens)
    logits = keras_logits(model, [*PROMPT, *tokens])[:-1].astype(np.float64)
    logits -= logits.max(-1, keepdims=True)
    logprobs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = [row[token] for row, token in zip(logprobs, [*PROMPT, *tokens][1:], strict=True)]
    found = [token.logprob for token in scored[-len(expected) :]]
    np.testing.assert_allclose(found, expected, atol=FLOAT_TOLERANCE * np.ptp(logits))
    return list(tokens)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_family_says_what_keras_says(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name].make(SEEDS.get(name, 0))
    tokens = agreement(model, convert(model, tmp_path / "m.tflite"))
    assert len(set(tokens)) >= 4, "an answer that repeats itself shows nothing"


# Models that hold tensors of their own, ask for positions, or whose cached path is another one.
@pytest.mark.parametrize(
    "name", ["gemma", "gemma2", "gemma3", "gemma4", "gemma4_e", "gemma4_moe", "gpt_neo_x"]
)
def test_the_forward_layout_gives_the_logits_of_the_forward_pass(name: str, tmp_path: Path) -> None:
    model = FAMILIES[name].make()
    path = tmp_path / "m.tflite"
    lt.Converter(model, layout="forward", quantizer="none", max_length=CONTEXT).convert(path)
    ids, mask = np.zeros((2, 1, CONTEXT), np.int32)
    ids[0, : len(PROMPT)], mask[0, : len(PROMPT)] = PROMPT, 1
    with lt.Interpreter(path, threads=1) as interpreter:
        assert set(interpreter.signatures["serving_default"].inputs) == {
            "token_ids",
            "padding_mask",
        }
        found = interpreter.run("serving_default", token_ids=ids, padding_mask=mask)["logits"]
    expected = keras_logits(model, PROMPT)
    np.testing.assert_allclose(
        found[0, : len(PROMPT)], expected, atol=FLOAT_TOLERANCE * np.ptp(expected)
    )


@pytest.mark.parametrize("name", ["gpt_neo_x", "gemma4_e"])
def test_the_generate_layout_writes_what_the_forward_pass_chooses(
    name: str, tmp_path: Path
) -> None:
    model = FAMILIES[name].make(text=True)
    path = tmp_path / "m.tflite"
    lt.Converter(model, layout="generate", quantizer="none", max_length=CONTEXT).convert(path)
    with lt.Interpreter(path, threads=1) as interpreter:
        notes = (interpreter.manifest.check or {}).get("notes", [])
        start = interpreter.manifest.tokens.start
        prompt = ([] if start is None else [start]) + interpreter.tokenize("The river runs past")
        tokens = interpreter.generate("The river runs past").token_ids
    assert notes == differences(model)
    assert len(set(tokens)) >= 4, "an answer that repeats itself shows nothing"
    logits = keras_logits(model, [*prompt, *tokens])
    assert logits[len(prompt) - 1 : -1].argmax(-1).tolist() == list(tokens)


def test_every_causal_lm_of_keras_hub_is_among_them() -> None:
    import keras_hub

    # Some have a second name, as `Qwen2CausalLM` is `QwenCausalLM`.
    classes = {
        getattr(keras_hub.models, name)
        for name in dir(keras_hub.models)
        if name.endswith("CausalLM") and name not in NO_DECODERS
    }
    covered = {getattr(keras_hub.models, family.causal_lm) for family in FAMILIES.values()}
    assert {c.__name__ for c in classes - covered} == set()


@pytest.mark.parametrize("name", ["gpt2", "mistral"])
def test_the_same_seed_gives_the_same_model(name: str) -> None:
    one, again, other = (FAMILIES[name].make(seed) for seed in (1, 1, 2))
    values = [[np.asarray(v) for v in model.trainable_variables] for model in (one, again, other)]
    assert all((a == b).all() for a, b in zip(values[0], values[1], strict=True))
    assert not any((a == b).all() for a, b in zip(values[0], values[2], strict=True))


@pytest.mark.parametrize(
    ("name", "start", "end"),
    [("llama3", "<|begin_of_text|>", "<|end_of_text|>"), ("gemma3", "<bos>", "<eos>")],
)
def test_a_small_model_reads_text_with_the_tokenizer_of_its_family(
    name: str, start: str, end: str
) -> None:
    tokenizer = FAMILIES[name].make(text=True).preprocessor.tokenizer
    assert tokenizer.id_to_token(tokenizer.start_token_id) == start
    assert tokenizer.id_to_token(tokenizer.end_token_id) == end
    assert tokenizer.detokenize(tokenizer("A small model")) == "A small model"


def renamed_llama() -> Any:
    """A model of a user's own: another class, and a layer under another name."""
    import keras_hub

    class MyBackbone(keras_hub.models.LlamaBackbone):  # type: ignore[misc]
        pass

    class MyCausalLM(keras_hub.models.LlamaCausalLM):  # type: ignore[misc]
        backbone_cls = MyBackbone

    config = FAMILIES["llama"].config
    backbone = MyBackbone(vocabulary_size=160, **config)
    backbone.transformer_layers[1].name = "the_middle_one"
    return MyCausalLM(backbone=backbone, preprocessor=None)


def test_a_subclass_with_a_layer_of_another_name_converts(tmp_path: Path) -> None:
    model = renamed_llama()
    for variable, drawn in zip(
        model.trainable_variables, FAMILIES["llama"].make().trainable_variables, strict=True
    ):
        variable.assign(drawn)
    agreement(model, convert(model, tmp_path / "m.tflite"))
    manifest = lt.Artifact.open(tmp_path / "m.tflite").manifest
    assert manifest.model.class_ == "MyCausalLM"


def bare_backbone() -> Any:
    import keras_hub

    return keras_hub.models.GPT2Backbone(vocabulary_size=160, **FAMILIES["gpt2"].config)


def plain_keras() -> Any:
    import keras

    return keras.Sequential([keras.Input([4]), keras.layers.Dense(2)])


@pytest.mark.parametrize("make", [bare_backbone, plain_keras, lambda: None, lambda: "gpt2"])
def test_what_is_no_causal_lm_is_refused_in_one_sentence(make: Callable[[], Any]) -> None:
    with pytest.raises(errors.UnsupportedModelError, match=r"^expected a KerasHub CausalLM") as e:
        lt.Converter(make(), **OPTIONS)
    assert ". " not in str(e.value)


def test_a_family_takes_the_size_of_its_vocabulary_by_every_name() -> None:
    for family in FAMILIES.values():
        assert isinstance(family, Family)
        assert not set(family.sizes) & set(family.config)
