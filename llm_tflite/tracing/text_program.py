"""The whole of ``generate`` as one graph: text in, tokens, two loops, text out.

The loops call the model by name only. Two custom operations stand for its graphs, the same ones
that the ``prefill_decode`` layout has, and ``flatbuffer.inline`` puts those in their place. So the
converter never sees a weight here, and a token costs what it costs there.

What Keras does is followed: the prompt is cut at ``max_length``, generation ends at ``max_length``
or with a stop token, and control tokens are left out of the text (``CausalLM.generate`` and
``generate_step`` of keras-hub 0.32).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from ..text_graph import GraphTokenizer
from .probe import Cache
from .string_form import bytes_to_string, string_to_bytes

PREFILL, DECODE = "llm_tflite.prefill", "llm_tflite.decode"


@dataclass(frozen=True)
class TextProgram:
    """What has to be known to write the loops.

    Attributes:
        tokenizer: Turns bytes into token ids and back.
        cache: The model's caches; their slots are a multiple of ``chunk``.
        max_length: Tokens of prompt and answer together.
        chunk: Tokens that one prefill call reads.
        vocabulary_size: V of the logits.
        start: The token that begins every text, if any.
        stop: Tokens that end an answer.
        top_k: How many of the most probable tokens may be chosen; 1 is greedy.
        temperature: Divides the logits, where several tokens may be chosen.
    """

    tokenizer: GraphTokenizer
    cache: Cache
    max_length: int
    chunk: int
    vocabulary_size: int
    start: int | None
    stop: tuple[int, ...]
    top_k: int
    temperature: float

    def run(self, text: tf.Tensor, noise: tf.Tensor | None) -> dict[str, tf.Tensor]:
        """Continue a text.

        Args:
            text: uint8 ``[N]``, without terminator; ``N`` may be 0.
            noise: float32 ``[max_length]`` in [0, 1), of which the token at each position takes its
                own; needed unless tokens are chosen greedily.

        Returns:
            ``text``: uint8 bytes of prompt and answer. ``tokens``: int32 ``[S]``, of which
            ``token_count`` are real and ``prompt_count`` the prompt's.
        """
        ids, count = self.tokenizer.encode(text)
        tokens, prompt_count = self._place(ids, count)
        caches = self._prefill(tokens, prompt_count, self._empty_caches(count))
        tokens, token_count = self._decode(tokens, prompt_count, caches, noise)
        return {
            "text": self.tokenizer.decode(tokens, token_count),
            "tokens": tokens,
            "token_count": token_count,
            "prompt_count": prompt_count,
        }

    @property
    def _slots(self) -> int:
        return self.cache.slots

    def _place(self, ids: tf.Tensor, count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """The prompt at the beginning of ``[S]`` tokens, start token and all, cut if too long."""
        offset = 0 if self.start is None else 1
        source = tf.range(self._slots) - offset
        known = (source >= 0) & (source < count)
        last = tf.maximum(tf.size(ids) - 1, 0)
        tokens = tf.where(known, tf.gather(ids, tf.clip_by_value(source, 0, last)), 0)
        if self.start is not None:
            tokens = tf.where(source < 0, self.start, tokens)
        # Without a start token an empty text has nothing to continue; token 0 takes the place.
        length = tf.clip_by_value(count + offset, 1, self.max_length)
        return tf.where(tf.range(self._slots) < length, tokens, 0), length

    def _empty_caches(self, count: tf.Tensor) -> list[tf.Tensor]:
        # Plain zeros would be constants in the file, as large as the caches.
        zero = tf.cast(tf.minimum(count, 0), tf.float32)
        return [tf.fill(tensor.shape, zero) for tensor in self.cache.tensors]

    def _prefill(
        self, tokens: tf.Tensor, prompt_count: tf.Tensor, caches: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        """Read all of the prompt but its last token.

        Slots behind the prompt are written too; decoding overwrites each before it is read.
        """
        prefill = self._model(PREFILL, self.chunk)

        def body(start: tf.Tensor, *caches: tf.Tensor) -> list[tf.Tensor]:
            positions = start + tf.range(self.chunk)
            chunk = tf.gather(tokens, positions)[tf.newaxis]
            return [start + self.chunk, *prefill(chunk, positions, *caches)]

        last = prompt_count - 1
        _, *caches = tf.while_loop(
            lambda start, *_: start < last, body, [tf.constant(0), *caches], parallel_iterations=1
        )
        return caches

    def _decode(
        self,
        tokens: tf.Tensor,
        prompt_count: tf.Tensor,
        caches: list[tf.Tensor],
        noise: tf.Tensor | None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Write tokens until one of them is a stop token or all have their place."""
        decode = self._model(DECODE, 1)
        places = tf.range(self._slots)

        def body(
            position: tf.Tensor, tokens: tf.Tensor, stopped: tf.Tensor, *caches: tf.Tensor
        ) -> list[tf.Tensor]:
            del stopped
            token = tf.reshape(tf.gather(tokens, position), [1, 1])
            *updated, logits = decode(token, tf.reshape(position, [1]), *caches)
            number = None if noise is None else tf.gather(noise, position)
            token = self._pick(tf.reshape(logits, [-1]), number)
            position += 1
            tokens = tf.where(tf.equal(places, position), token, tokens)
            return [position, tokens, self._stops(token), *updated]

        position, tokens, *_ = tf.while_loop(
            lambda position, _, stopped, *__: (position + 1 < self.max_length) & ~stopped,
            body,
            [prompt_count - 1, tokens, tf.constant(value=False), *caches],
            parallel_iterations=1,
        )
        return tokens, position + 1

    def _pick(self, logits: tf.Tensor, number: tf.Tensor | None) -> tf.Tensor:
        """Choose a token from float32 ``[V]``, with one number in [0, 1) if not greedily."""
        if number is None:
            return tf.argmax(logits, output_type=tf.int32)
        values, ids = tf.math.top_k(logits, self.top_k)
        cumulative = tf.cumsum(tf.nn.softmax(values / self.temperature))
        # Of the sum as it was rounded, so that the last token can always be reached.
        passed = tf.cast(cumulative <= number * cumulative[-1], tf.int32)
        place = tf.minimum(tf.reduce_sum(passed), self.top_k - 1)
        return tf.gather(ids, place)

    def _stops(self, token: tf.Tensor) -> tf.Tensor:
        if not self.stop:
            return tf.constant(value=False)
        return tf.reduce_any(tf.equal(token, tf.constant(self.stop)))

    def _model(self, name: str, length: int) -> Callable[..., list[tf.Tensor]]:
        """A function that becomes the custom operation ``name``.

        Its body only makes shapes that depend on every input, so that nothing is folded away.
        """
        inputs = [tf.TensorSpec([1, length], tf.int32), tf.TensorSpec([length], tf.int32)]
        inputs += [tf.TensorSpec(tensor.shape) for tensor in self.cache.tensors]

        @tf.function(
            autograph=False, input_signature=inputs, experimental_implements=_custom_operation(name)
        )
        def model(tokens: Any, positions: Any, *caches: Any) -> list[Any]:
            mark = tf.cast(tf.reduce_sum(tokens) + tf.reduce_sum(positions), tf.float32)
            outputs = [cache + mark for cache in caches]
            if name == DECODE:
                outputs.append(tf.fill([1, 1, self.vocabulary_size], mark))
            return outputs

        typed: Callable[..., list[tf.Tensor]] = model
        return typed


def serving_function(program: TextProgram, text: str) -> Any:
    """The signature ``serving_default`` as a ``tf.function``; see ``layouts.generate``.

    Args:
        program: What it does.
        text: ``bytes`` or ``string``, the form of the text outside. The prompt is then a string
            ``[1]``, whose graph takes a string ``[]`` as well. The bytes of both strings are
            outputs, ``prompt_bytes`` and ``text_bytes``, and between them lies the other form.
    """
    specs = [
        tf.TensorSpec([1], tf.string, name="prompt")
        if text == "string"
        else tf.TensorSpec([None], tf.uint8, name="prompt")
    ]
    if program.top_k != 1:
        specs.append(tf.TensorSpec([program.max_length], tf.float32, name="noise"))

    def from_bytes(prompt: tf.Tensor, noise: tf.Tensor | None) -> dict[str, tf.Tensor]:
        outputs = program.run(_without_terminator(prompt), noise)
        outputs["text"] = tf.concat([outputs["text"], tf.zeros([1], tf.uint8)], 0)
        return outputs

    @tf.function(autograph=False, input_signature=specs)
    def serving(prompt: Any, noise: Any = None) -> dict[str, Any]:
        if text == "bytes":
            return from_bytes(prompt, noise)
        prompt_bytes = string_to_bytes(prompt)
        outputs = from_bytes(prompt_bytes, noise)
        text_bytes = outputs["text"]
        outputs |= {"prompt_bytes": prompt_bytes, "text_bytes": text_bytes}
        return outputs | {"text": bytes_to_string(text_bytes)}

    return serving


def tokenizer_function(tokenizer: GraphTokenizer) -> Any:
    """A text to token ids and back, as a ``tf.function``, to be compared with the host's."""

    @tf.function(autograph=False, input_signature=[tf.TensorSpec([None], tf.uint8, name="prompt")])
    def round_trip(prompt: Any) -> dict[str, Any]:
        ids, count = tokenizer.encode(_without_terminator(prompt))
        text = tf.concat([tokenizer.decode(ids, count), tf.zeros([1], tf.uint8)], 0)
        return {"text": text, "tokens": ids, "token_count": count}

    return round_trip


def _without_terminator(prompt: tf.Tensor) -> tf.Tensor:
    """The bytes without the zero at the end, if it is there."""
    # uint8 counts as quantized in the runtime, whose comparison of such tensors aborts.
    last = tf.concat([[1], tf.cast(prompt, tf.int32)], 0)[-1]
    return prompt[: tf.size(prompt) - tf.cast(tf.equal(last, 0), tf.int32)]


def _custom_operation(name: str) -> str:
    """Ask the converter for a custom operation instead of the function's body.

    ``tfl_fusable_op`` of tensorflow/compiler/mlir/lite/transforms/prepare_composite_functions_tf.cc
    """
    return f'name: "{name}" attr {{ key: "tfl_fusable_op" value {{ b: true }} }}'
