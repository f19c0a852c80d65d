"""Models as users have them: half precision, LoRA, quantized by Keras, made by hand."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from material import gpt2_vocabulary

import llm_tflite as lt
from llm_tflite import errors
from llm_tflite.conversion.calibration import collect_statistics
from llm_tflite.demo import shapes
from llm_tflite.flatbuffer.model import operator_name, parse
from llm_tflite.tracing.float_code import float_code
from llm_tflite.tracing.reference import keras_logits

Model = Callable[..., Any]
TOKENS = [3, 141, 59, 26, 53, 58, 97, 93]
HALVES = ["bfloat16", "float16", "mixed_bfloat16", "mixed_float16"]
# Keras warns of layers that it cannot quantize, NumPy of how Keras reads variables meanwhile.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method"),
    pytest.mark.filterwarnings("ignore:Invalid quantization mode"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]


def convert(model: Any, path: Path, **options: Any) -> lt.Artifact:
    defaults: dict[str, Any] = {"quantizer": "none"}
    if options.get("layout", "prefill_decode") == "prefill_decode":
        defaults |= {"context_length": 64, "prefill_lengths": (8,)}
    return lt.Converter(model, **(defaults | options)).convert(path)


def digest(artifact: lt.Artifact) -> str:
    """Of operations, shapes, weights and scales; names of layers count up in every process."""
    data = artifact.read_model()
    model = parse(data)
    found = hashlib.sha256()
    for graph in model.subgraphs:
        for operator in graph.operators:
            operands = [*operator.inputs, *operator.outputs]
            found.update(f"{operator_name(model, operator)} {operands}".encode())
        for tensor in graph.tensors:
            buffer = model.buffers[tensor.buffer]
            scales = getattr(tensor.quantization, "scale", None)
            shape = [] if tensor.shape is None else list(tensor.shape)
            found.update(f"{tensor.type} {shape}".encode())
            if scales is not None:
                found.update(np.asarray(scales, np.float32).tobytes())
            if buffer.size:
                found.update(data[buffer.offset : buffer.offset + buffer.size])
            elif buffer.data is not None:
                found.update(bytes(buffer.data))
    return found.hexdigest()


def greedy(artifact: lt.Artifact, count: int = 64 - len(TOKENS)) -> list[int]:
    with lt.Interpreter(artifact.path) as interpreter:
        completion = interpreter.generate(TOKENS, max_new_tokens=count, stop_token_ids=())
    return list(completion.token_ids)


def twin_of(model: Any, twin: Any) -> Any:
    """Give a float32 model the values of another one's weights, adapters left out."""
    values = [np.asarray(v).astype(np.float32) for v in model.weights if "lora" not in v.path]
    twin.set_weights(values)
    return twin


def tiny_llama3_with_lora_everywhere(seed: int = 0) -> Any:
    """Adapters of random values beside all that can have one, the tied embedding included."""
    model = shapes.tiny_llama3()
    random = np.random.default_rng(seed)
    for layer in model._flatten_layers(recursive=True):
        if not layer._layers and hasattr(layer, "enable_lora"):
            layer.enable_lora(rank=4, lora_alpha=6)
            for variable in layer.trainable_variables:
                if "lora" in variable.path:
                    variable.assign(random.normal(0, 0.2, variable.shape))
    return model


def merged(model: Any, twin: Any) -> Any:
    """A model without adapters, with the matrices that Keras computes with."""
    pairs = zip(
        model._flatten_layers(recursive=True), twin._flatten_layers(recursive=True), strict=True
    )
    for layer, other in pairs:
        for name in ("kernel", "embeddings"):
            if getattr(layer, "lora_enabled", False) and hasattr(layer, name):
                getattr(other, name).assign(getattr(layer, name))
    return twin


# --- half precision ---------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("shape", [shapes.tiny_gpt2, shapes.tiny_llama])
def test_the_file_of_a_half_precision_model_holds_its_values_as_float32(
    shape: Model, dtype: str, tmp_path: Path
) -> None:
    model = shape(dtype=dtype)
    artifact = convert(model, tmp_path / "half.tflite")
    same = convert(twin_of(model, shape()), tmp_path / "float32.tflite")
    assert digest(artifact) == digest(same)
    assert len(set(greedy(artifact))) >= 8


@pytest.mark.parametrize("dtype", HALVES)
def test_the_manifest_says_what_was_compared_with_what(dtype: str, tmp_path: Path) -> None:
    check = convert(shapes.tiny_gpt2(dtype=dtype), tmp_path / "m.tflite").manifest.check
    assert check is not None
    assert check["greedy"]["equal_tokens"] == check["greedy"]["tokens"]
    assert check["greedy"]["max_logit_difference"] < 1e-4
    half = dtype.removeprefix("mixed_")
    assert check["own_types"]["compute"] == [half, "float32"]  # Keras masks scores in float32
    assert check["own_types"]["weights"] == ["float32" if "mixed" in dtype else half]
    assert check["own_types"]["correlation"] > 0.99
    assert check["own_types"]["max_logit_difference"] > 1e-3


def test_a_float32_model_has_no_types_to_tell(tmp_path: Path) -> None:
    check = convert(shapes.tiny_gpt2(), tmp_path / "m.tflite").manifest.check
    assert check is not None
    assert "own_types" not in check


@pytest.mark.parametrize("quantizer", ["float16", "dynamic_range", "int4"])
def test_a_bfloat16_model_is_stored_as_the_quantizer_says(quantizer: str, tmp_path: Path) -> None:
    model = shapes.tiny_llama(dtype="bfloat16")
    artifact = convert(model, tmp_path / "half.tflite", quantizer=quantizer)
    same = twin_of(model, shapes.tiny_llama())
    same = convert(same, tmp_path / "float32.tflite", quantizer=quantizer)
    assert digest(artifact) == digest(same)


@pytest.mark.parametrize("layout", ["generate", "forward"])
def test_a_bfloat16_model_has_every_layout(layout: str, tmp_path: Path) -> None:
    vocabulary = gpt2_vocabulary()[0].parent
    model = shapes.tiny_gpt2(vocabulary=vocabulary, dtype="bfloat16")
    artifact = convert(model, tmp_path / "half.tflite", layout=layout, max_length=32)
    same = twin_of(model, shapes.tiny_gpt2(vocabulary=vocabulary))
    same = convert(same, tmp_path / "float32.tflite", layout=layout, max_length=32)
    assert digest(artifact) == digest(same)
    assert artifact.manifest.model.parameters == same.manifest.model.parameters


@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_a_number_that_keras_rounded_in_its_graph_is_exact_in_the_file(
    dtype: str, tmp_path: Path
) -> None:
    # Gemma multiplies embeddings by the root of 40, in the graph of a bfloat16 model by 6.3125.
    import keras_hub

    def gemma(dtype: str) -> Any:
        backbone = keras_hub.models.GemmaBackbone(
            vocabulary_size=160,
            num_layers=2,
            hidden_dim=40,
            intermediate_dim=64,
            num_query_heads=4,
            num_key_value_heads=1,
            head_dim=8,
            dtype=dtype,
        )
        model = keras_hub.models.GemmaCausalLM(backbone=backbone, preprocessor=None)
        return shapes.randomize(model, seed=0)

    model = gemma(dtype)
    artifact = convert(model, tmp_path / "half.tflite")
    same = convert(twin_of(model, gemma("float32")), tmp_path / "float32.tflite")
    assert digest(artifact) == digest(same)


def test_float64_is_refused() -> None:
    with pytest.raises(errors.UnsupportedModelError, match=r"float16, .* is float64"):
        lt.Converter(shapes.tiny_gpt2(dtype="float64"))


# --- LoRA -------------------------------------------------------------------------------------


@pytest.mark.parametrize("quantizer", ["none", "dynamic_range"])
def test_the_file_of_a_model_with_lora_is_that_of_the_merged_model(
    quantizer: str, tmp_path: Path
) -> None:
    model = tiny_llama3_with_lora_everywhere()
    artifact = convert(model, tmp_path / "lora.tflite", quantizer=quantizer)
    same = merged(model, shapes.tiny_llama3())
    without = convert(shapes.tiny_llama3(), tmp_path / "without.tflite", quantizer=quantizer)
    same = convert(same, tmp_path / "merged.tflite", quantizer=quantizer)
    assert digest(artifact) == digest(same)
    assert digest(artifact) != digest(without)
    assert artifact.manifest.model.parameters == same.manifest.model.parameters
    assert artifact.manifest.check is not None
    assert artifact.manifest.check["own_types"]["weights"] == ["float32", "lora"]
    assert artifact.manifest.check["own_types"]["max_logit_difference"] < 1e-4
    assert len(set(greedy(artifact))) >= 8


def test_kerashubs_own_choice_of_adapted_layers_is_merged(tmp_path: Path) -> None:
    model = shapes.tiny_gpt2()
    model.backbone.enable_lora(rank=2)
    random = np.random.default_rng(0)
    for variable in model.trainable_variables:
        if "lora" in variable.path:  # the biases beside stay trainable
            variable.assign(random.normal(0, 0.3, variable.shape))
    artifact = convert(model, tmp_path / "lora.tflite")
    same = convert(merged(model, shapes.tiny_gpt2()), tmp_path / "merged.tflite")
    assert digest(artifact) == digest(same)


def test_lora_on_bfloat16_is_merged_in_float32(tmp_path: Path) -> None:
    model = shapes.tiny_gpt2(dtype="bfloat16")
    kernel = model.backbone.transformer_layers[0]._feedforward_output_dense
    kernel.enable_lora(rank=2)
    kernel.lora_kernel_b.assign(np.full(kernel.lora_kernel_b.shape, 0.1))
    same = twin_of(model, shapes.tiny_gpt2())
    dense = same.backbone.transformer_layers[0]._feedforward_output_dense
    dense.kernel.assign(dense.kernel + kernel.lora_kernel_a @ kernel.lora_kernel_b)
    artifact = convert(model, tmp_path / "lora.tflite")
    assert digest(artifact) == digest(convert(same, tmp_path / "merged.tflite"))


def test_adapters_of_another_kind_are_refused() -> None:
    model = shapes.tiny_gpt2()
    norm = model.backbone.transformer_layers[0]._self_attention_layer_norm
    norm.lora_enabled = True
    with pytest.raises(errors.UnsupportedModelError, match=r"layer_norm has another kind"):
        lt.Converter(model)


# --- quantized by Keras -----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [shapes.tiny_gpt2, shapes.tiny_llama, shapes.tiny_llama3])
def test_the_integers_of_keras_are_those_of_the_file(shape: Model, tmp_path: Path) -> None:
    model = shape()
    model.quantize("int8")
    artifact = convert(model, tmp_path / "m.tflite", quantizer="dynamic_range")
    stored = (tmp_path / "m.tflite").read_bytes()
    matrices = [v for v in model.variables if v.dtype == "int8"]
    assert len(matrices) in (1 + 3 * 6, 2 + 3 * 7, 1 + 3 * 7)
    for variable in matrices:
        values = np.asarray(variable)
        if not variable.path.endswith("token_embedding/embeddings"):
            leading = 2 if "attention_output" in variable.path else 1
            values = values.reshape(int(np.prod(values.shape[:leading])), -1).T
        assert values.tobytes() in stored, variable.path
    check = artifact.manifest.check
    assert check is not None
    assert check["own_types"]["weights"] == ["float32", "int8"]
    assert check["own_types"]["correlation"] > 0.99  # Keras rounds activations, too


@pytest.mark.parametrize(
    ("shape", "block_size"),
    [(shapes.tiny_gpt2, 128), (shapes.tiny_llama, 8), (shapes.tiny_llama3, -1)],
)
def test_four_bit_weights_of_keras_keep_their_values(
    shape: Model, block_size: int, tmp_path: Path
) -> None:
    import keras

    model = shape()
    model.quantize("int4", config=keras.quantizers.Int4QuantizationConfig(block_size=block_size))
    check = convert(model, tmp_path / "m.tflite").manifest.check
    assert check is not None
    assert check["greedy"]["equal_tokens"] == check["greedy"]["tokens"]
    assert check["own_types"]["weights"] == ["float32", "int4"]
    # Keras computes with these weights in float32, so both of its forward passes are the same.
    assert check["own_types"]["max_logit_difference"] < 1e-3


def test_lora_beside_integers_is_added_to_what_they_stand_for(tmp_path: Path) -> None:
    model = shapes.tiny_llama()
    model.quantize("int4")
    model.backbone.enable_lora(rank=2)
    for variable in model.trainable_variables:
        if variable.path.endswith("lora_kernel_b"):
            variable.assign(np.full(variable.shape, 0.3))
    with float_code(model):
        adapted = keras_logits(model, TOKENS)
    np.testing.assert_allclose(adapted, keras_logits(model, TOKENS), atol=1e-4)
    check = convert(model, tmp_path / "m.tflite").manifest.check
    assert check is not None
    assert check["greedy"]["equal_tokens"] == check["greedy"]["tokens"]
    assert check["own_types"]["weights"] == ["float32", "int4", "lora"]


def test_a_table_that_lora_makes_two_matrices_is_refused() -> None:
    model = shapes.tiny_llama3()
    model.quantize("int8")
    model.backbone.token_embedding.enable_lora(rank=2)
    with pytest.raises(errors.UnsupportedModelError, match="token_embedding is quantized and has"):
        lt.Converter(model)


def test_another_mode_of_quantization_is_refused() -> None:
    model = shapes.tiny_gpt2()
    model.quantize("float8")
    with pytest.raises(errors.UnsupportedModelError, match=r"of the mode 'float8'"):
        lt.Converter(model)


# --- what holds for all of them ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "change"),
    [
        (lambda: shapes.tiny_llama(dtype="bfloat16"), lambda model: None),
        (tiny_llama3_with_lora_everywhere, lambda model: None),
        (shapes.tiny_llama, lambda model: model.quantize("int8")),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_afterwards_what_it_was(
    shape: Model, change: Callable[[Any], None], fails: bool, tmp_path: Path
) -> None:
    model = shape()
    change(model)
    state = [dict(vars(layer)) for layer in model._flatten_layers(recursive=True)]
    before = keras_logits(model, TOKENS)

    def stop(step: lt.Progress) -> None:
        if fails and step.stage == "quantizing weights":
            raise KeyboardInterrupt

    converter = lt.Converter(model, context_length=64, prefill_lengths=(8,))
    if fails:
        with pytest.raises(KeyboardInterrupt):
            converter.convert(tmp_path / "m.tflite", progress=stop)
    else:
        converter.convert(tmp_path / "m.tflite")
    for layer, attributes in zip(model._flatten_layers(recursive=True), state, strict=True):
        for name in ("_dtype_policy", "lora_enabled", "reverse_dtype"):
            assert vars(layer).get(name) is attributes.get(name)
    np.testing.assert_array_equal(before, keras_logits(model, TOKENS))


def test_calibration_sees_what_it_sees_in_float32() -> None:
    texts = [TOKENS, TOKENS[::-1]]
    halved, adapted = shapes.tiny_llama(dtype="bfloat16"), tiny_llama3_with_lora_everywhere()
    pairs = [
        (halved, twin_of(halved, shapes.tiny_llama())),
        (adapted, merged(adapted, shapes.tiny_llama3())),
    ]
    for model, twin in pairs:
        with float_code(model):
            found = collect_statistics(model, texts, lambda step: None)
        expected = collect_statistics(twin, texts, lambda step: None)
        assert found.keys() == expected.keys()
        assert len(found) >= 21
        for path, seen in found.items():
            assert seen.input.maximum == pytest.approx(expected[path].input.maximum, rel=1e-4)
            assert seen.output.minimum == pytest.approx(expected[path].output.minimum, rel=1e-4)


# --- lengths and models made by hand ----------------------------------------------------------


def test_a_context_shorter_than_the_position_table_is_enough(tmp_path: Path) -> None:
    model = shapes.tiny_gpt2()  # 256 positions
    artifact = convert(model, tmp_path / "m.tflite", context_length=16)
    with lt.Interpreter(artifact.path) as interpreter:
        completion = interpreter.generate(TOKENS, max_new_tokens=100, stop_token_ids=())
    assert completion.finish_reason == "context"
    assert len(TOKENS) + len(completion.token_ids) in (16, 17)
    tokens = [*TOKENS, *completion.token_ids][:16]
    expected = keras_logits(model, tokens).argmax(-1)[len(TOKENS) - 1 : -1]
    assert tokens[len(TOKENS) :] == expected.tolist()


@pytest.mark.parametrize(("sequence", "context"), [(16, 64), (128, 32)])
def test_the_preprocessors_length_does_not_bind_the_context(
    sequence: int, context: int, tmp_path: Path
) -> None:
    model = shapes.tiny_gpt2(vocabulary=gpt2_vocabulary()[0].parent)
    model.preprocessor.sequence_length = sequence
    artifact = convert(model, tmp_path / "m.tflite", context_length=context)
    assert artifact.manifest.model.context_length == context
    with lt.Interpreter(artifact.path) as interpreter:
        completion = interpreter.generate("The river", max_new_tokens=24, stop_token_ids=())
        prompt = [artifact.manifest.tokens.start, *interpreter.tokenize("The river")]
    tokens = [*prompt, *completion.token_ids]
    expected = keras_logits(model, tokens).argmax(-1)[len(prompt) - 1 : -1]
    assert list(completion.token_ids) == expected.tolist()


def handmade(backbone: Any) -> Any:
    """A language model of plain Keras: attention and a tied head, and no class of KerasHub."""
    import keras

    class Handmade(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.backbone = backbone

        def call(self, inputs: Any, training: bool = False) -> Any:
            hidden = self.backbone(inputs, training=training)
            return self.backbone.token_embedding(hidden, reverse=True)

        def call_with_cache(self, token_ids: Any, cache: Any, cache_update_index: Any) -> Any:
            inputs = self.backbone.token_embedding(token_ids)
            positions = self.backbone.position_embedding(inputs, start_index=cache_update_index)
            hidden, caches = inputs + positions, []
            for i, layer in enumerate(self.backbone.transformer_layers):
                hidden, updated = layer(
                    hidden,
                    self_attention_cache=cache[:, i, ...],
                    self_attention_cache_update_index=cache_update_index,
                )
                caches.append(updated)
            hidden = self.backbone.layer_norm(hidden)
            logits = self.backbone.token_embedding(hidden, reverse=True)
            return logits, hidden, keras.ops.stack(caches, axis=1)

        def generate_step(self, inputs: Any, stop_token_ids: Any = None) -> Any:
            length, facts = inputs["token_ids"].shape[1], self.backbone
            shape = (1, facts.num_layers, 2, length, facts.num_heads, 8)
            cache = keras.ops.zeros(shape, dtype=self.compute_dtype)
            return self.call_with_cache(inputs["token_ids"], cache, 0)

    return Handmade()


def test_a_plain_keras_model_with_the_same_methods_converts(tmp_path: Path) -> None:
    original = shapes.tiny_gpt2()
    model = handmade(original.backbone)
    artifact = convert(model, tmp_path / "handmade.tflite")
    written = greedy(artifact)
    assert len(set(written)) >= 8
    expected = keras_logits(original, [*TOKENS, *written]).argmax(-1)[len(TOKENS) - 1 : -1]
    assert written == expected.tolist()
    assert artifact.manifest.model.class_ == "Handmade"


def test_a_backbone_without_a_vocabulary_is_refused() -> None:
    import keras

    model = handmade(keras.layers.Identity())
    with pytest.raises(errors.UnsupportedModelError, match="vocabulary_size"):
        lt.Converter(model)


@pytest.mark.slow
def test_a_bfloat16_gpt2_says_what_its_float32_twin_says(tmp_path: Path) -> None:
    model = shapes.gpt2_124m(dtype="bfloat16")
    options = {"quantizer": "dynamic_range", "context_length": 256, "prefill_lengths": (32,)}
    artifact = convert(model, tmp_path / "half.litertlm", **options)
    same = twin_of(model, shapes.gpt2_124m())
    same = convert(same, tmp_path / "float32.litertlm", **options)
    assert digest(artifact) == digest(same)
    check = artifact.manifest.check
    assert check is not None
    assert check["own_types"]["weights"] == ["bfloat16"]
    assert len(set(greedy(artifact))) >= 8
