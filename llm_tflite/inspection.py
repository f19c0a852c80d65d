"""Look into a ``.litertlm`` or ``.tflite`` file, ours or anybody's, without running anything."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal

from .bundle import litertlm, tflite_metadata
from .bundle.contents import Contents, Span
from .bundle.litertlm import MANIFEST_KEY, Section, SectionType
from .bundle.tflite_model import ModelInfo, SignatureInfo, TensorInfo, read_model
from .errors import CorruptArtifactError, IncompatibleArtifactError
from .files import PathLike, open_regular, storage_errors
from .manifest import Manifest
from .op_coverage import CustomOperation, custom_operations

# Types in which models store weights; int32, int64 and bool constants are shapes and indices.
_WEIGHT_TYPES = ("float", "bfloat", "int8", "int4", "int2", "uint8", "uint4")
_TOKENIZERS: Mapping[int, str] = {
    SectionType.HF_TOKENIZER_ZLIB: "hf",
    SectionType.SENTENCEPIECE: "sentencepiece",
}


@dataclass(frozen=True)
class SectionInfo:
    """A part of the file, with what a ``.litertlm`` header says of it."""

    name: str
    begin: int
    size_bytes: int
    items: Mapping[str, str]


@dataclass(frozen=True)
class Inspection:
    """What a file holds; as a string, a page for people.

    Attributes:
        path: The file, as it was given.
        container: ``".litertlm"`` or ``".tflite"``, whatever the file is called.
        size_bytes: Its size.
        sections: Its parts, in the order in which it lists them.
        models: Its TFLite models; an artifact of ours has one.
        custom_operations: Their operations beyond TFLite's own, and who runs these here.
        tokenizer: ``"hf"`` or ``"sentencepiece"``; None if there is none that we know.
        manifest: What the file says of itself; None if another program wrote it.
        digests: Whether its bytes match the digests in the manifest; "none" without a manifest.
        note: Why there is no manifest, or what does not match; otherwise "".
    """

    path: str
    container: Literal[".litertlm", ".tflite"]
    size_bytes: int
    sections: tuple[SectionInfo, ...]
    models: tuple[ModelInfo, ...]
    custom_operations: tuple[CustomOperation, ...]
    tokenizer: str | None
    manifest: Manifest | None
    digests: Literal["none", "unchecked", "match", "mismatch"]
    note: str

    @property
    def parameters(self) -> int:
        """How many weights the model has; without a manifest, how many the file stores."""
        if self.manifest is not None:
            return self.manifest.model.parameters
        stored = (storage for model in self.models for storage in model.storage)
        return sum(s.values for s in stored if s.dtype.startswith(_WEIGHT_TYPES))

    @property
    def bytes_per_parameter(self) -> float:
        """The size of the whole file for each weight."""
        return self.size_bytes / max(1, self.parameters)

    def to_dict(self) -> dict[str, Any]:
        """Return everything in the types of JSON."""
        values = dataclasses.asdict(dataclasses.replace(self, manifest=None))
        values["parameters"] = self.parameters
        values["bytes_per_parameter"] = self.bytes_per_parameter
        values["manifest"] = json.loads(self.manifest.to_bytes()) if self.manifest else None
        return values

    def __str__(self) -> str:
        """Return a page for people."""
        return "\n".join(_lines(self))


def inspect(path: PathLike, *, verify: bool = False) -> Inspection:
    """Say what a file holds. Nothing is run, no runtime is loaded and no weights are read.

    Plugins are imported only for a file with custom operations, to say which of them run these.

    Args:
        path: A ``.litertlm`` or ``.tflite`` file; any program may have written it.
        verify: Read the whole file and compare it with its digests; ``Inspection.digests`` tells.

    Raises:
        ArtifactNotFoundError: There is no file at ``path``.
        CorruptArtifactError: It is neither kind of file, or it was cut or altered.
        IncompatibleArtifactError: It is a ``.litertlm`` file of a later major version.
        StorageError: It cannot be read.
    """
    with open_regular(path) as stream, storage_errors(path):
        try:
            return _inspect(str(path), stream, verify=verify)
        except (CorruptArtifactError, IncompatibleArtifactError) as e:
            raise type(e)(f"{path}: {e}") from e


def _inspect(path: str, stream: BinaryIO, *, verify: bool) -> Inspection:
    size = stream.seek(0, 2)
    stream.seek(0)
    start = stream.read(8)
    container: Literal[".litertlm", ".tflite"]
    if start == litertlm.MAGIC:
        container = ".litertlm"
        listed = litertlm.read_header(stream).sections
        contents, note = _contents(litertlm.read_contents, stream)
        sections = [SectionInfo(_name(s), s.span.begin, s.span.size, s.items) for s in listed]
        models = [s.span for s in listed if s.type == SectionType.TFLITE_MODEL]
        tokenizers = [_TOKENIZERS[s.type] for s in listed if s.type in _TOKENIZERS]
    elif start[4:] == tflite_metadata.FILE_IDENTIFIER:
        container = ".tflite"
        contents, note = _contents(tflite_metadata.read_contents, stream)
        models = [Span(0, size)]
        spans = {"model": models[0]}
        if contents is not None:
            spans = {**contents.sections, "manifest": contents.manifest_span}
        sections = [SectionInfo(name, s.begin, s.size, {}) for name, s in spans.items()]
        facts = contents.manifest.tokenizer if contents else None
        tokenizers = [facts.kind] if facts else []
    else:
        raise CorruptArtifactError("expected a .litertlm or .tflite file; it is neither")
    digests: Literal["none", "unchecked", "match", "mismatch"] = "none"
    if contents is not None:
        digests = "unchecked"
        if verify:
            note = _mismatch(contents, stream)
            digests = "mismatch" if note else "match"
    infos = tuple(read_model(stream, span.begin, span.end) for span in models)
    return Inspection(
        path=path,
        container=container,
        size_bytes=size,
        sections=tuple(sections),
        models=infos,
        custom_operations=custom_operations(
            name for info in infos for s in info.signatures for name in s.custom_operators
        ),
        tokenizer=tokenizers[0] if tokenizers else None,
        manifest=contents.manifest if contents else None,
        digests=digests,
        note=note,
    )


def _contents(
    read: Callable[[BinaryIO], Contents], stream: BinaryIO
) -> tuple[Contents | None, str]:
    """Read our manifest, or say why there is none."""
    try:
        return read(stream), ""
    except IncompatibleArtifactError as e:
        return None, str(e)


def _mismatch(contents: Contents, stream: BinaryIO) -> str:
    try:
        for name in contents.sections:
            contents.verify(stream, name)
        contents.verify_gaps(stream)
    except CorruptArtifactError as e:
        return str(e)
    return ""


def _name(section: Section) -> str:
    if MANIFEST_KEY in section.items:
        return section.items[MANIFEST_KEY]
    known = section.type in SectionType._value2member_map_
    return SectionType(section.type).name.lower() if known else f"type {section.type}"


# --- the page for people ------------------------------------------------------------------------


def _lines(inspection: Inspection) -> Iterator[str]:
    each = f"{inspection.parameters:,} parameters, {inspection.bytes_per_parameter:.3f} bytes each"
    yield f"{inspection.path}: {inspection.container}, {inspection.size_bytes:,} bytes"
    if manifest := inspection.manifest:
        model, quantization = manifest.model, manifest.quantization
        yield f"  model       {model.class_}, {each}"
        types = ", ".join(dict.fromkeys(buffer.dtype for buffer in manifest.cache))
        cache = f"{manifest.cache_bytes:,} bytes" + (f" of {types}" if types else "")
        yield f"  context     {model.context_length:,} tokens, {cache}"
        yield f"  quantizer   {quantization.strategy}"
        for note, count in Counter(w.note for w in quantization.weights if w.note).items():
            yield f"              {count} weights: {note}"
        yield f"  written by  {manifest.library.name} {manifest.library.version}"
    else:
        yield f"  model       {each}"
    yield f"  tokenizer   {inspection.tokenizer or 'none'}"
    yield f"  digests     {inspection.digests}"
    if inspection.note:
        yield f"  note        {inspection.note}"
    yield "sections"
    for section in inspection.sections:
        items = "".join(f"  {key}={value}" for key, value in section.items.items())
        yield f"  {section.begin:>14,}  {section.size_bytes:>14,} bytes  {section.name}{items}"
    for model_info in inspection.models:
        yield "weights"
        for storage in model_info.storage:
            yield f"  {storage.bytes:>14,} bytes  {storage.arrays:>6,} arrays  {storage.dtype}"
        yield f"  {model_info.scale_bytes:>14,} bytes of quantization scales"
        for signature in model_info.signatures:
            yield f"signature {signature.name or '(none)'}"
            yield from _signature_lines(signature)
    if inspection.custom_operations:
        yield "custom operations"
    for operation in inspection.custom_operations:
        yield f"  {operation}"


def _signature_lines(signature: SignatureInfo) -> Iterator[str]:
    for kind, tensors in (("takes", signature.inputs), ("gives", signature.outputs)):
        for line in _tensor_lines(tensors):
            yield f"  {kind}  {line}"
    for kind, counts in (("runs", signature.operators), ("custom", signature.custom_operators)):
        if counts:
            yield f"  {kind:5}  " + ", ".join(f"{n} {name}" for name, n in counts.items())


def _tensor_lines(tensors: Sequence[TensorInfo]) -> Iterator[str]:
    """One line for all tensors that differ in a number of their names only, as caches do."""
    groups: dict[tuple[str, tuple[int, ...], str], list[str]] = {}
    for tensor in tensors:
        key = (re.sub(r"\d+", "#", tensor.name), tensor.shape, tensor.dtype)
        groups.setdefault(key, []).append(tensor.name)
    for (_, shape, dtype), names in groups.items():
        name = names[0] if len(names) == 1 else f"{names[0]} ... {names[-1]} ({len(names)})"
        yield f"{name}: {dtype}{list(shape)}"
