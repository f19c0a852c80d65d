"""The ``generate`` layout: text in and text out, in one graph.

The text program and the model's graphs are converted apart; the graphs then take the places in the
program's loops that custom operations hold for them, and the weights are placed as in the
``prefill_decode`` layout.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

import numpy as np

from ..flatbuffer.inline import inline
from ..flatbuffer.model import holds_strings
from ..progress import Report
from ..quantization import QuantizationStrategy
from ..signature_names import signature_variants
from ..text_graph import GraphTokenizer
from ..tracing.cache_usage import learn_cache
from ..tracing.requirements import position_limit, vocabulary_size
from ..tracing.skeleton import convert_function
from ..tracing.string_form import FLEX_OPERATIONS
from ..tracing.text_program import DECODE, PREFILL, TextProgram, serving_function
from .core import CoreModel, convert_signatures, write_model

# Outputs of the graph. The signature has the text alone; the others are for who asks for them.
OUTPUTS = ("text", "tokens", "token_count", "prompt_count")
# Those that the string form has as well.
_STRING_OUTPUTS = ("prompt_bytes", "text_bytes")
# The loop copies its caches twice per token, so no slot should be allocated for nothing.
_LONGEST_CHUNK = 32


@dataclass(frozen=True)
class GenerateOptions:
    """What is fixed when the file is written.

    Attributes:
        max_length: Tokens of prompt and answer together.
        start: The token that begins every text, if any.
        stop: Tokens that end an answer.
        top_k: How many of the most probable tokens may be chosen; 1 is greedy.
        temperature: Divides the logits, where several tokens may be chosen.
        text: The form of the text, see ``write_generate``.
    """

    max_length: int
    start: int | None
    stop: tuple[int, ...]
    top_k: int = 1
    temperature: float = 1.0
    text: Literal["bytes", "string"] = "bytes"

    @property
    def samples(self) -> bool:
        """Whether the signature takes ``noise``."""
        return self.top_k != 1


def write_generate(
    model: Any,
    stream: BinaryIO,
    *,
    tokenizer: GraphTokenizer,
    options: GenerateOptions,
    strategy: QuantizationStrategy,
    report: Report,
) -> CoreModel:
    """Write the ``.tflite`` form of a Keras model with its tokenizer to ``stream``.

    The signature ``serving_default`` takes ``prompt``, uint8 ``[N]`` in UTF-8 that ends in one zero
    byte, and gives ``text`` in the same form: prompt and answer, without control tokens. A file
    that samples takes ``noise`` as well, float32 ``[max_length]`` uniform in [0, 1).

    Its operations are builtin ones. With the text as strings ``[]`` two of TensorFlow's are added,
    ``string_form.FLEX_OPERATIONS``, and only these.

    Args:
        model: A KerasHub ``CausalLM`` whose code computes in float32 (``float_code``).
        stream: A seekable, empty binary file.
        tokenizer: The model's tokenizer, as a graph.
        options: What is fixed.
        strategy: How each matrix is stored.
        report: Called at every step.

    Raises:
        UnsupportedModelError: The model's code or its cache is of a form not known here.
        ConversionError: An operation has no builtin form.
        QuantizationError: The strategy failed on a weight, or a weight is not finite.
    """
    chunk, slots = prefill_chunk(options.max_length, position_limit(model))
    cache = learn_cache(model, slots)
    if cache.exact_prefill:  # the loop's last call would be padded
        chunk, cache = 1, cache.with_slots(options.max_length)
    variants = list(signature_variants([chunk], []))
    (decode, prefill), weights = convert_signatures(model, cache, variants, report)

    program = TextProgram(
        tokenizer=tokenizer,
        cache=cache,
        max_length=options.max_length,
        chunk=chunk,
        vocabulary_size=vocabulary_size(model),
        start=options.start,
        stop=options.stop,
        top_k=options.top_k,
        temperature=options.temperature,
    )
    custom = {DECODE, PREFILL} | (set(FLEX_OPERATIONS) if options.text == "string" else set())
    flatbuffer = convert_function(serving_function(program, options.text), custom=custom)
    sites = inline(flatbuffer, {DECODE: decode, PREFILL: prefill})
    _name_tensors(flatbuffer)
    _show_text_alone(flatbuffer)
    placed = write_model(flatbuffer, sites, weights, stream, strategy=strategy, report=report)
    return CoreModel((), placed)  # caches live inside of the loops


def prefill_chunk(max_length: int, limit: int | None) -> tuple[int, int]:
    """How many tokens one prefill call reads, and the cache slots that whole calls fill.

    The slots are no more than the model has positions: the runtime would clamp what lies behind.
    """

    def slots(chunk: int) -> int:
        return -(-max_length // chunk) * chunk

    # Shorter chunks read the weights more often; half of the longest one is the least.
    chunks = range(min(_LONGEST_CHUNK, max_length), 0, -1)
    good = [c for c in chunks if 2 * c >= chunks[0] and slots(c) <= (limit or slots(c))]
    chunk = min(good or [1], key=slots)
    return chunk, slots(chunk)


def _name_tensors(flatbuffer: Any) -> None:
    """Replace names that count what a process has traced: the same model gives the same bytes."""
    for index, graph in enumerate(flatbuffer.subgraphs):
        graph.name = f"graph_{index}".encode()
        for number, tensor in enumerate(graph.tensors):
            tensor.name = f"tensor_{index}_{number}".encode()


def _show_text_alone(flatbuffer: Any) -> None:
    (signature,) = flatbuffer.signatureDefs
    entries = {entry.name.decode(): entry for entry in signature.outputs}
    graph = flatbuffer.subgraphs[signature.subgraphIndex]
    names = [name for name in (*OUTPUTS, *_STRING_OUTPUTS) if name in entries]
    graph.outputs = np.array([entries[name].tensorIndex for name in names], np.int32)
    for entry in (*signature.inputs, *signature.outputs):
        tensor = graph.tensors[entry.tensorIndex]
        tensor.name = entry.name
        if holds_strings(tensor):
            tensor.shape = np.array([], np.int32)
    signature.outputs = [entries["text"]]
