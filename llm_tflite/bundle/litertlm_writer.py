"""Write a ``.litertlm`` file that the official LiteRT-LM runtime and our ``Interpreter`` both run.

The header schema and the metadata messages come from ``litert_lm_builder``; its builder class is
not used, because it stamps a random id and the current time into every file and reads sections from
paths only.
"""

from __future__ import annotations

import dataclasses
import hashlib
import uuid
from collections.abc import Iterator
from typing import Any, BinaryIO

from llm_tflite.errors import MissingDependencyError
from llm_tflite.manifest import Manifest, SectionFacts

from .contents import SectionWriter, Span
from .litertlm import (
    BLOCK_BYTES,
    HEADER_END_POSITION,
    HEADER_POSITION,
    MAGIC,
    MANIFEST_KEY,
    MANIFEST_VALUE,
    MODEL_TYPE,
    MODEL_TYPE_KEY,
    SectionType,
    pack_tokenizer,
)

# The same input must give the same bytes, so the time of writing cannot be among them.
_TIMESTAMP = "1970-01-01T00:00:00+00:00"
_NO_DIGEST = "0" * 64
_TOKENIZER_TYPES = {"hf": SectionType.HF_TOKENIZER_ZLIB, "sentencepiece": SectionType.SENTENCEPIECE}


def write_litertlm(
    stream: BinaryIO, core: Iterator[bytes], tokenizer: bytes | None, manifest: Manifest
) -> None:
    """Write the container.

    Args:
        stream: An empty file, open for reading and writing.
        core: The ``.tflite`` model, in pieces.
        tokenizer: The tokenizer as its library reads it; its kind stands in the manifest.
        manifest: Its ``sections`` are replaced.

    Raises:
        MissingDependencyError: ``litert-lm-builder`` is not installed.
    """
    llm_metadata, executor_metadata = _llm_metadata(manifest), _executor_metadata(manifest)
    types = {"llm_metadata": SectionType.LLM_METADATA}
    if tokenizer is not None and manifest.tokenizer is not None:
        types["tokenizer"] = _TOKENIZER_TYPES[manifest.tokenizer.kind]
    types["model"] = SectionType.TFLITE_MODEL
    if executor_metadata:
        types["executor_metadata"] = SectionType.EXECUTOR_METADATA
    types["manifest"] = SectionType.GENERIC

    # Neither offsets nor digests change the length of the header or of the manifest.
    draft = _header(types, dict.fromkeys(types, Span(1, 1)), _NO_DIGEST)
    writer = SectionWriter(stream, BLOCK_BYTES)
    writer.add("llm_metadata", [llm_metadata], begin=HEADER_POSITION + len(draft))
    if tokenizer is not None and manifest.tokenizer is not None:
        writer.add("tokenizer", [pack_tokenizer(manifest.tokenizer.kind, tokenizer)])
    writer.add("model", core)
    if executor_metadata:
        writer.add("executor_metadata", [executor_metadata])

    first = writer.spans["llm_metadata"].begin
    facts = writer.facts | {"header": SectionFacts(_NO_DIGEST, first)}
    size = len(dataclasses.replace(manifest, sections=facts).to_bytes())
    begin = writer.align()
    spans = writer.spans | {"manifest": Span(begin, begin + size)}
    header = _header(types, spans, writer.facts["model"].sha256)
    block = _start(HEADER_POSITION + len(header)) + header
    block += b"\0" * (first - len(block))
    facts["header"] = SectionFacts(hashlib.sha256(block).hexdigest(), first)
    stream.write(dataclasses.replace(manifest, sections=facts).to_bytes())
    stream.seek(0)
    stream.write(block)


def _start(header_end: int) -> bytes:
    """The fixed 32 bytes before the header's table."""
    core = _builder("litertlm_core")
    version = (
        core.LITERTLM_MAJOR_VERSION,
        core.LITERTLM_MINOR_VERSION,
        core.LITERTLM_PATCH_VERSION,
    )
    start = MAGIC + b"".join(number.to_bytes(4, "little") for number in version)
    return start.ljust(HEADER_END_POSITION, b"\0") + header_end.to_bytes(8, "little")


def _header(types: dict[str, SectionType], spans: dict[str, Span], model_digest: str) -> bytes:
    """The header's table: which sections there are, and where."""
    import flatbuffers

    schema = _builder("litertlm_header_schema_py_generated")

    def pair(key: str, value: str) -> Any:
        return schema.KeyValuePairT(
            key=key, value=schema.StringValueT(value), valueType=schema.VData.StringValue
        )

    items = {
        "model": [pair(MODEL_TYPE_KEY, MODEL_TYPE)],
        "manifest": [pair(MANIFEST_KEY, MANIFEST_VALUE)],
    }
    metadata = schema.LiteRTLMMetaDataT(
        systemMetadata=schema.SystemMetadataT(
            entries=[
                pair("uuid", str(uuid.uuid5(uuid.NAMESPACE_OID, model_digest))),
                pair("creation_timestamp", _TIMESTAMP),
            ]
        ),
        sectionMetadata=schema.SectionMetadataT(
            objects=[
                schema.SectionObjectT(
                    items=items.get(name, []),
                    dataType=int(kind),
                    beginOffset=spans[name].begin,
                    endOffset=spans[name].end,
                )
                for name, kind in types.items()
            ]
        ),
    )
    builder = flatbuffers.Builder(BLOCK_BYTES)
    builder.Finish(metadata.Pack(builder))
    return bytes(builder.Output())


def _llm_metadata(manifest: Manifest) -> bytes:
    """What the official runtime must know: where texts start and stop, and how to choose tokens."""
    message = _builder("runtime.proto.llm_metadata_pb2").LlmMetadata()
    if manifest.tokens.start is not None:
        # The runtime puts this before every first turn, so only models that are used to it get one.
        message.start_token.token_ids.ids.append(manifest.tokens.start)
    for stop in manifest.tokens.stop:
        message.stop_tokens.add().token_ids.ids.append(stop)
    # Greedy. Its own GREEDY type is refused on CPU by 0.18.1 ("not implemented yet").
    message.sampler_params.type = message.sampler_params.TOP_P
    message.sampler_params.k = 1
    message.sampler_params.p = 1.0
    message.sampler_params.temperature = 1.0
    message.max_num_tokens = manifest.model.context_length
    message.llm_model_type.generic_model.SetInParent()
    message.supports_thinking = False
    message.supports_function_calling = False
    return bytes(message.SerializeToString(deterministic=True))


def _executor_metadata(manifest: Manifest) -> bytes:
    """Where each cache has its sequence axis: keys ``[1,H,S,D]``, values ``[1,H,D,S]``."""
    module = _builder("runtime.proto.executor_metadata_pb2")
    message = module.ExecutorMetadata()
    for cache in manifest.cache:
        state = message.llm_executor_metadata.state_buffers.add()
        state.prefill_input_name = state.prefill_output_name = cache.name
        state.decode_input_name = state.decode_output_name = cache.name
        if cache.slot_axis is None:
            state.type = state.TYPE_LINEAR_ATTENTION
            continue
        key = cache.name.startswith("kv_cache_k_")
        state.type = state.TYPE_GLOBAL_KEY_CACHE if key else state.TYPE_GLOBAL_VALUE_CACHE
        state.sequence_axis = cache.slot_axis
    return bytes(message.SerializeToString(deterministic=True))


def _builder(module: str) -> Any:
    import importlib

    try:
        return importlib.import_module(f"litert_lm_builder.{module}")
    except ImportError as e:
        raise MissingDependencyError(
            "writing .litertlm files needs litert-lm-builder; install llm-tflite[convert]"
        ) from e
