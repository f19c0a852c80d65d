"""What the Android app runs, and what it does not."""

from __future__ import annotations

from collections.abc import Iterator

from ..artifact import Artifact
from ..bundle.tflite_model import ModelInfo
from ..errors import CorruptArtifactError, IncompatibleArtifactError
from ..files import PathLike
from ..inspection import Inspection, inspect
from ..manifest import Manifest
from ..signature_names import SERVING
from ..tokenizers import ByteLevelTokenizer

# The app maps the file, and Java counts the bytes of a buffer in 31 bits.
LARGEST_BYTES = 2**31 - 1

# Latest versions of operations that TFLite 2.19 has, which LiteRT 1.3 is later than
# (tflite/tools/versioning/runtime_version.cc); 1 for all others.
_OPERATOR_VERSIONS = {
    "ABS": 5, "ADD": 5, "ARG_MAX": 3, "ARG_MIN": 3, "BATCH_MATMUL": 4, "BROADCAST_TO": 3,
    "CAST": 7, "CONCATENATION": 4, "DEQUANTIZE": 6, "DIV": 2, "DYNAMIC_UPDATE_SLICE": 3,
    "EMBEDDING_LOOKUP": 4, "EQUAL": 4, "EXP": 2, "FILL": 4, "FLOOR_DIV": 3, "FLOOR_MOD": 2,
    "FULLY_CONNECTED": 13, "GATHER": 7, "GATHER_ND": 5, "GELU": 2, "GREATER": 2,
    "GREATER_EQUAL": 3, "LESS": 3, "LESS_EQUAL": 2, "LOG": 2, "LOGISTIC": 3, "MAXIMUM": 4,
    "MEAN": 3, "MINIMUM": 4, "MUL": 7, "NOT_EQUAL": 3, "PACK": 4, "PAD": 4, "PADV2": 4,
    "QUANTIZE": 3, "RANGE": 2, "REDUCE_MAX": 3, "REDUCE_MIN": 3, "REDUCE_PROD": 2, "RELU": 3,
    "REVERSE_V2": 3, "RSQRT": 3, "SELECT": 4, "SELECT_V2": 2, "SIGN": 2, "SLICE": 6,
    "SOFTMAX": 3, "SPLIT": 4, "SPLIT_V": 2, "SQUARED_DIFFERENCE": 2, "SQUEEZE": 2,
    "STRIDED_SLICE": 8, "SUB": 5, "SUM": 2, "TANH": 3, "TILE": 3, "TOPK_V2": 3, "TRANSPOSE": 7,
    "UNPACK": 4, "WHERE": 2,
}  # fmt: skip


def check_suitable(file: PathLike) -> Inspection:
    """Read a whole file and refuse it unless the Android app can run it.

    Returns:
        What it holds.

    Raises:
        ArtifactNotFoundError: There is no such file.
        CorruptArtifactError: It was changed since it was written.
        IncompatibleArtifactError: The app cannot run it, for all the reasons in the message.
    """
    inspection = inspect(file, verify=True)
    if inspection.manifest is None:
        raise IncompatibleArtifactError(
            f"{file}: expected a file of this library, which says what it is and has digests; "
            f"{inspection.note}"
        )
    if inspection.digests != "match":
        raise CorruptArtifactError(f"{file}: {inspection.note}")
    problems = [
        *_container_problems(inspection),
        *_layout_problems(inspection.manifest),
        *(problem for model in inspection.models for problem in _operation_problems(model)),
    ]
    if not problems:
        problems = [
            *_signature_problems(inspection.manifest, inspection.models[0]),
            *_tokenizer_problems(Artifact.open(file)),
        ]
    if problems:
        raise IncompatibleArtifactError(f"{file}: the app cannot run it: {'; '.join(problems)}")
    return inspection


def _container_problems(inspection: Inspection) -> Iterator[str]:
    if inspection.size_bytes > LARGEST_BYTES:
        yield (
            f"expected at most {LARGEST_BYTES:,} bytes; it has {inspection.size_bytes:,}: convert "
            "with a quantizer of fewer bits"
        )
    if len(inspection.models) != 1:
        yield f"expected one model; it has {len(inspection.models)}"


def _layout_problems(manifest: Manifest) -> Iterator[str]:
    if manifest.layout not in ("prefill_decode", "generate"):
        yield (
            "expected a layout that writes text, 'prefill_decode' or 'generate'; it has "
            f"{manifest.layout!r}"
        )
    if manifest.text is not None and manifest.text.form != "bytes":
        yield (
            "expected text as bytes; it takes a tensor of strings, which needs TensorFlow's own "
            "operations: convert with text='bytes'"
        )
    if manifest.tokenizer is None:
        yield "expected a tokenizer; it has none: convert the model with its preprocessor"


def _operation_problems(model: ModelInfo) -> Iterator[str]:
    custom = sorted({name for s in model.signatures for name in s.custom_operators})
    if custom:
        yield f"expected builtin operations only; it has {', '.join(custom)}"
    for name, version in model.operator_versions.items():
        latest = _OPERATOR_VERSIONS.get(name, 1)
        if version > latest:
            yield f"expected {name} up to version {latest}; it has version {version}"


def _signature_problems(manifest: Manifest, model: ModelInfo) -> Iterator[str]:
    found = {signature.name: signature for signature in model.signatures}
    if manifest.layout == "generate":
        inputs = {t.name: t.dtype for t in found[SERVING].inputs} if SERVING in found else {}
        if inputs.get("prompt") != "uint8":
            yield f"expected the signature {SERVING!r} with a 'prompt' of uint8"
        return
    facts = manifest.model
    names = {facts.signature_name(None), *map(facts.signature_name, facts.prefill_lengths)}
    names |= {facts.signature_name(None, slots) for slots in facts.short_caches}
    if missing := sorted(names - found.keys()):
        yield f"expected the signatures of its manifest; it lacks {', '.join(missing)}"


def _tokenizer_problems(artifact: Artifact) -> Iterator[str]:
    tokenizer = artifact.tokenizer()
    if isinstance(tokenizer, ByteLevelTokenizer) and tokenizer.algorithm != "BPE":
        yield (
            "expected a tokenizer of byte pairs or SentencePiece, as the app has them; it has "
            f"{tokenizer.algorithm}"
        )
