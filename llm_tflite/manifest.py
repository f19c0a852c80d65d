"""What a file says of itself: versioned, written one way only, read strictly.

A manifest is canonical JSON (sorted keys, UTF-8, no spaces) that carries the SHA-256 of itself
without that digest, so a changed byte is always noticed.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from .errors import CorruptArtifactError, IncompatibleArtifactError
from .signature_names import signature_name

FORMAT_VERSION = "1.0"
MAX_MANIFEST_BYTES = 64 << 20

Json = Any  # what json.loads returns; "check" and "describe" are free-form


@dataclass(frozen=True)
class Library:
    """The program that wrote the file."""

    name: str
    version: str


@dataclass(frozen=True)
class Model:
    """What the model is and how much it takes at once.

    Attributes:
        class_: Name of the Keras class.
        parameters: How many numbers were trained.
        vocabulary_size: Tokens that there are.
        context_length: Tokens of a text, prompt and answer together, at most.
        prefill_lengths: Tokens that each prefill graph reads.
        short_caches: Slots of smaller caches that there are graphs for.
        exact_prefill: Whether a pad would change what the model remembers, so that a prefill graph
            must get as many tokens as it reads.
        prefix_prefill: Whether every token of a prompt sees the whole of it, so that one call must
            read it; the longest prefill graph reads a whole context.
    """

    class_: str
    parameters: int
    vocabulary_size: int
    context_length: int
    prefill_lengths: tuple[int, ...]
    short_caches: tuple[int, ...] = ()
    exact_prefill: bool = False
    prefix_prefill: bool = False

    def signature_name(self, length: int | None, slots: int | None = None) -> str:
        """Name the graph that reads ``length`` tokens, or decodes, with caches of ``slots``."""
        whole = self.context_length if self.prefix_prefill else None
        return signature_name(length, slots, exact=self.exact_prefill, whole=whole)


@dataclass(frozen=True)
class CacheBuffer:
    """One tensor that lives from call to call.

    Attributes:
        name: Its name in every graph.
        shape: For the whole context.
        dtype: Type of its numbers.
        slot_axis: The axis along which tokens lie, one behind the other; None for a state, which
            every token changes as a whole, and which is zeros at the beginning of a text.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    slot_axis: int | None


@dataclass(frozen=True)
class Tokens:
    """The token that begins every text, if any, and those that end one."""

    start: int | None
    stop: tuple[int, ...]


@dataclass(frozen=True)
class TokenizerFacts:
    """The form of the tokenizer section and whose behaviour it has."""

    kind: Literal["hf", "sentencepiece"]
    behaviour: str = "keras"


@dataclass(frozen=True)
class QuantizedWeight:
    """How one variable is stored.

    Attributes:
        name: Path of the Keras variable.
        shape: As stored, ``(out, in)`` for matrices.
        role: ``embedding``, ``projection``, or ``table`` for one that is read as it is.
        bits: Per value: 32, 16, 8 or 4.
        block_size: Values that share a scale; 0 for a whole row.
        bytes: In the file, scales included.
        note: Why it was left at more bits than the strategy's, if it was.
    """

    name: str
    shape: tuple[int, ...]
    role: str
    bits: int
    block_size: int
    bytes: int
    note: str = ""


@dataclass(frozen=True)
class Quantization:
    """The strategy, what it says of itself, and what it did to each matrix."""

    strategy: str
    describe: Mapping[str, Json]
    weights: tuple[QuantizedWeight, ...]


@dataclass(frozen=True)
class SectionFacts:
    """Digest and size of one section as it is stored."""

    sha256: str
    size: int


@dataclass(frozen=True)
class TextFacts:
    """What a graph that takes and gives text was made for.

    Attributes:
        form: ``bytes``: uint8 that ends in one zero. ``string``: a string tensor.
        special_tokens: Whether the names of control tokens in a prompt stand for these tokens.
        top_k: How many of the most probable tokens may be chosen; 1 is greedy.
        temperature: What the logits are divided by where several tokens may be chosen.
    """

    form: Literal["bytes", "string"]
    special_tokens: bool
    top_k: int
    temperature: float


@dataclass(frozen=True)
class Manifest:
    """Everything a reader must know of an artifact besides the model itself.

    ``sections`` belongs to the container (``.litertlm`` or ``.tflite``); its writer fills it in.
    """

    library: Library
    layout: str
    model: Model
    cache: tuple[CacheBuffer, ...]
    tokens: Tokens
    tokenizer: TokenizerFacts | None
    quantization: Quantization
    text: TextFacts | None = None
    check: Mapping[str, Json] | None = None
    sections: Mapping[str, SectionFacts] = field(default_factory=dict)
    format_version: str = FORMAT_VERSION

    @property
    def weight_bytes(self) -> int:
        """Bytes of all stored matrices with their scales."""
        return sum(weight.bytes for weight in self.quantization.weights)

    @property
    def cache_bytes(self) -> int:
        """Memory that one conversation's cache takes."""
        sizes = {"float32": 4, "float16": 2, "int8": 1}
        return sum(math.prod(buffer.shape) * sizes[buffer.dtype] for buffer in self.cache)

    def to_bytes(self) -> bytes:
        """Return the one form in which this manifest is stored."""
        values = _encode(self)
        return _canonical(values | {"digest": _digest(values)})

    @staticmethod
    def from_bytes(data: bytes) -> Manifest:
        """Read a manifest that nobody has changed.

        Raises:
            CorruptArtifactError: It is not a manifest, or not the one that was written.
            IncompatibleArtifactError: It was written by a later major version.
        """
        if len(data) > MAX_MANIFEST_BYTES:
            raise CorruptArtifactError(
                f"expected a manifest of at most {MAX_MANIFEST_BYTES:,} bytes; it has {len(data):,}"
            )
        try:
            values = json.loads(
                data.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant
            )
            if not isinstance(values, dict):
                raise ValueError("an object was expected")
            # Every version keeps this rule, so that damage is never taken for a later version.
            digest = values.pop("digest", None)
            if digest != _digest(values) or data != _canonical(values | {"digest": digest}):
                raise ValueError("its digest does not match: it was changed after it was written")
            minor = _minor_version(values.get("format_version"))
            manifest: Manifest = _decode(Manifest, values, "", lenient=minor > 0)
            _check_facts(manifest)
        except IncompatibleArtifactError:
            raise
        except (ValueError, RecursionError) as e:
            raise CorruptArtifactError(f"the manifest cannot be read: {e}") from e
        return manifest


def _canonical(values: Json) -> bytes:
    text = json.dumps(
        values, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode("utf-8")


def _digest(values: Json) -> str:
    return hashlib.sha256(_canonical(values)).hexdigest()


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def _no_constant(name: str) -> Json:
    raise ValueError(f"{name} is not JSON")


def _minor_version(version: Json) -> int:
    parts = version.split(".") if isinstance(version, str) else []
    if len(parts) != 2 or not all(part.isascii() and part.isdigit() for part in parts):
        raise ValueError(f'format_version must look like "{FORMAT_VERSION}"; got {version!r}')
    if parts[0] != FORMAT_VERSION.split(".")[0]:
        raise IncompatibleArtifactError(
            f"this library reads format {FORMAT_VERSION}; the file has format {version}: "
            f"install a version of llm-tflite that reads it"
        )
    return int(parts[1])


def _check_facts(manifest: Manifest) -> None:
    """Facts that others compute with must agree with one another."""
    model = manifest.model
    lengths = (0, *model.prefill_lengths, model.context_length)
    if list(lengths[:-1]) != sorted(set(lengths[:-1])) or lengths[-2] > lengths[-1]:
        raise ValueError(
            f"model.prefill_lengths must rise from 1 to at most the context of "
            f"{model.context_length}; got {list(model.prefill_lengths)}"
        )
    caches = [0, *model.short_caches, model.context_length]
    if caches != sorted(set(caches)):
        raise ValueError(
            f"model.short_caches must rise and stay below the context of {model.context_length}; "
            f"got {list(model.short_caches)}"
        )
    if model.prefix_prefill and (model.exact_prefill or lengths[-2] < lengths[-1]):
        raise ValueError(
            f"model.prefix_prefill needs pads and a prefill graph for the whole context of "
            f"{model.context_length}; got {list(model.prefill_lengths)}"
        )
    start = () if manifest.tokens.start is None else (manifest.tokens.start,)
    for token in (*start, *manifest.tokens.stop):
        if token >= model.vocabulary_size:
            raise ValueError(f"token {token} is outside a vocabulary of {model.vocabulary_size}")
    for buffer in manifest.cache:
        if buffer.dtype not in ("float32", "float16", "int8"):
            raise ValueError(f"cache.{buffer.name} has the unknown type {buffer.dtype!r}")
        axis, slots = buffer.slot_axis, model.context_length
        if axis is None and not model.exact_prefill:
            raise ValueError(f"cache.{buffer.name} is a state, which needs model.exact_prefill")
        if axis is not None and buffer.shape[axis : axis + 1] != (slots,):
            raise ValueError(
                f"cache.{buffer.name} must have the context of {slots} along axis {axis}; its "
                f"shape is {list(buffer.shape)}"
            )


# --- dataclasses to JSON and back ---------------------------------------------------------------


def _encode(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        kind: Any = type(value)
        return {key: _encode(getattr(value, name)) for key, name in _fields(kind)[1].items()}
    if isinstance(value, tuple | list):
        return [_encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _encode(item) for key, item in value.items()}
    return value


def _decode(kind: Any, value: Json, where: str, *, lenient: bool) -> Any:
    """Turn parsed JSON into ``kind``; ``lenient`` ignores keys of a later minor version."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if dataclasses.is_dataclass(kind):
        return _decode_fields(kind, value, where, lenient=lenient)
    if origin is types.UnionType:  # "X | None" is the only union above
        return None if value is None else _decode(arguments[0], value, where, lenient=lenient)
    if origin is Literal and value in arguments:
        return value
    if origin is tuple and isinstance(value, list):
        return tuple(
            _decode(arguments[0], item, f"{where}[{i}]", lenient=lenient)
            for i, item in enumerate(value)
        )
    if origin is Mapping and isinstance(value, dict):
        return {
            key: _decode(arguments[1], item, f"{where}.{key}", lenient=lenient)
            for key, item in value.items()
        }
    # Numbers here are sizes, shapes and ids. bool is an int for Python, not for JSON.
    if kind is int and type(value) is int and 0 <= value < 1 << 63:
        return value
    if kind is bool and isinstance(value, bool):
        return value
    if kind is float and type(value) in (int, float):
        return float(value)
    if kind is Any or (kind is str and isinstance(value, str)):
        return value
    expected = getattr(kind, "__name__", str(kind))
    raise ValueError(f"{where or 'it'} must be {expected}, not negative; got {str(value)[:80]!r}")


def _decode_fields(kind: Any, value: Json, where: str, *, lenient: bool) -> Any:
    hints, keys = _fields(kind)
    if not isinstance(value, dict):
        raise ValueError(f"{where} must be an object; got {str(value)[:80]!r}")
    missing = keys.keys() - value.keys()
    unknown = set() if lenient else value.keys() - keys.keys()
    if missing or unknown:
        raise ValueError(
            f"{where or 'it'} lacks {sorted(missing)} and has the unknown keys {sorted(unknown)}"
        )
    return kind(
        **{
            name: _decode(hints[name], value[key], f"{where}.{key}".lstrip("."), lenient=lenient)
            for key, name in keys.items()
        }
    )


@functools.cache
def _fields(kind: Any) -> tuple[dict[str, Any], dict[str, str]]:
    """The types of a dataclass by field, and its fields by their keys in JSON."""
    keys = {f.name.rstrip("_"): f.name for f in dataclasses.fields(kind)}
    return typing.get_type_hints(kind), keys
