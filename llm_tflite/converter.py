"""Turn a Keras causal language model into one file, and check the file against the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

from ._version import __version__
from .artifact import Artifact, write_artifact
from .check import check_core
from .errors import InvalidOptionError, MissingDependencyError
from .files import PathLike, check_target, require_space, scratch_file
from .manifest import (
    CacheBuffer,
    Library,
    Manifest,
    Model,
    Quantization,
    QuantizedWeight,
    TokenizerFacts,
    Tokens,
)
from .plugins import load_plugins
from .progress import Progress, Report, reporting
from .quantization import QuantizationStrategy, describe
from .tokenizer_assets import asset_from_keras
from .tokenizers import load_tokenizer

if TYPE_CHECKING:
    from .layouts.prefill_decode import CoreModel

_DEFAULT_CONTEXT = 1024
# A longer one gains nothing on a CPU: 700 tokens/s with 512, 732 with 128 (GPT-2 124M, int8).
_DEFAULT_LADDER = (8, 32, 128)
_SAMPLE_TEXT = "The river runs past the old mill, and in the evening the people of the town"
# Slots of the caches with which a text begins; it moves to larger ones as it grows.
_SHORT_CACHES = (256, 1024, 4096)
_SUFFIXES = (".litertlm", ".tflite")


class Converter:
    """Converts one KerasHub causal language model.

    Args:
        model: A ``CausalLM`` of ``keras_hub`` or ``keras_nlp`` in float32 on the TensorFlow
            backend, with a preprocessor, or without one for an artifact of tokens in and tokens
            out.
        layout: ``"prefill_decode"``: signatures with an explicit KV cache, builtin operations only.
        quantizer: The name of a strategy (``llm-tflite plugins`` lists them) or a strategy object.
        context_length: Tokens of prompt and answer together, the cache's length; by default 1024 or
            the length of the model's position table, whichever is less.
        prefill_lengths: T of each ``prefill_{T}`` signature. A prompt is cut into these; a small
            one among them lets the last slots of the context be used.

    Raises:
        UnsupportedModelError: ``model`` is not of that kind; the message says in which respect.
        InvalidOptionError: An argument has a value that no file could honour.
        UnknownPluginNameError: Nobody offers the quantizer.
    """

    def __init__(
        self,
        model: Any,
        *,
        layout: str = "prefill_decode",
        quantizer: str | QuantizationStrategy = "dynamic_range",
        context_length: int | None = None,
        prefill_lengths: Sequence[int] | None = None,
    ) -> None:
        """Check everything that can be checked before work begins."""
        try:
            from .tracing.requirements import check_context, check_model, position_limit
        except ImportError as error:
            raise MissingDependencyError(
                f"converting needs {error.name}: pip install 'llm-tflite[convert]'"
            ) from error
        if layout != "prefill_decode":
            raise InvalidOptionError(f"layout must be 'prefill_decode'; got {layout!r}")
        check_model(model)
        if context_length is None:
            context_length = min(position_limit(model) or _DEFAULT_CONTEXT, _DEFAULT_CONTEXT)
        if prefill_lengths is None:
            prefill_lengths = [t for t in _DEFAULT_LADDER if t <= context_length]
        self._context_length = _checked_length("context_length", context_length)
        self._prefill_lengths = _checked_ladder(prefill_lengths, self._context_length)
        self._short_caches = tuple(s for s in _SHORT_CACHES if s < self._context_length)
        check_context(model, self._context_length)
        self._strategy = load_plugins().quantizer(quantizer)
        self._tokenizer = asset_from_keras(model.preprocessor)
        self._model = model

    def convert(
        self,
        path: PathLike,
        *,
        overwrite: bool = False,
        progress: bool | Report | None = None,
    ) -> Artifact:
        """Write the artifact, checked against the model, and return it.

        Args:
            path: Where to; the ending chooses the container, ``.litertlm`` or ``.tflite``.
            overwrite: Whether an existing file may be replaced.
            progress: True for a bar, or a function that is called with every ``Progress``.

        Raises:
            ArtifactExistsError: There is a file and ``overwrite`` is false.
            StorageError: The disk refused or has too little room.
            ConversionError: The model could not be converted.
            DisagreementError: The file would say something else than the model. No file is left.
        """
        target = check_target(path, overwrite=overwrite)
        if target.suffix.lower() not in _SUFFIXES:
            raise InvalidOptionError(
                f"the path must end in {' or '.join(_SUFFIXES)}, the containers of this layout; "
                f"got {target.suffix or 'no ending'!r}"
            )
        parameters = sum(int(variable.value.shape.num_elements()) for variable in self._weights())
        # About the least that scratch file and artifact take, at four bits; `write_artifact` knows
        # the artifact's exact size and asks again.
        require_space(target.parent, parameters)
        with reporting(progress) as report, scratch_file(path) as (core_path, stream):
            core = self._write_core(stream, report)
            report(Progress("checking", 0, 1))
            manifest = self._manifest(core, parameters, check=None)
            check = check_core(
                core_path,
                manifest,
                self._model,
                prompt=self._sample_prompt(),
                lossless=self._strategy.lossless,
            )
            report(Progress("writing", 0, 1))
            artifact = write_artifact(
                path,
                core_path,
                self._tokenizer.data if self._tokenizer else None,
                self._manifest(core, parameters, check),
                overwrite=overwrite,
            )
            report(Progress("writing", 1, 1))
        return artifact

    def _weights(self) -> list[Any]:
        return [v for v in self._model.variables if v.dtype == "float32"]

    def _write_core(self, stream: BinaryIO, report: Report) -> CoreModel:
        from .layouts.prefill_decode import write_core

        return write_core(
            self._model,
            stream,
            strategy=self._strategy,
            context_length=self._context_length,
            prefill_lengths=self._prefill_lengths,
            short_caches=self._short_caches,
            report=report,
        )

    def _sample_prompt(self) -> list[int]:
        """Natural text as token ids, the way that the Interpreter would feed it."""
        asset = self._tokenizer
        if asset is None:
            return []
        start = [] if asset.start is None else [asset.start]
        return start + load_tokenizer(asset.kind, asset.data).encode(_SAMPLE_TEXT)

    def _manifest(self, core: CoreModel, parameters: int, check: dict[str, Any] | None) -> Manifest:
        tokenizer = self._tokenizer
        return Manifest(
            library=Library("llm_tflite", __version__),
            layout="prefill_decode",
            model=Model(
                class_=type(self._model).__name__,
                parameters=parameters,
                vocabulary_size=self._model.backbone.vocabulary_size,
                context_length=self._context_length,
                prefill_lengths=self._prefill_lengths,
                short_caches=self._short_caches,
            ),
            cache=tuple(CacheBuffer(t.name, t.shape, "float32") for t in core.cache.tensors),
            tokens=Tokens(
                start=tokenizer.start if tokenizer else None,
                stop=tuple(tokenizer.stop) if tokenizer else (),
            ),
            tokenizer=TokenizerFacts(tokenizer.kind) if tokenizer else None,
            quantization=Quantization(
                strategy=self._strategy.name,
                describe=describe(self._strategy),
                weights=tuple(
                    QuantizedWeight(
                        name=weight.name,
                        shape=weight.shape,
                        role=weight.role,
                        bits=weight.bits,
                        block_size=weight.block_size,
                        bytes=weight.size_bytes,
                        note=weight.note,
                    )
                    for weight in core.weights
                ),
            ),
            check=check,
        )


def _checked_length(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidOptionError(f"{name} must be a whole number of tokens from 1; got {value!r}")
    # LiteRT-LM takes prime dimensions over 10 for placeholders and replaces them at load.
    if value > 10 and all(value % factor for factor in range(2, int(value**0.5) + 1)):
        raise InvalidOptionError(
            f"{name} is {value}, a prime, which LiteRT-LM reads as a placeholder; pass {value + 1}"
        )
    return value


def _checked_ladder(lengths: Sequence[int], context_length: int) -> tuple[int, ...]:
    ladder = tuple(sorted({_checked_length("each of prefill_lengths", t) for t in lengths}))
    if not ladder or ladder[-1] > context_length:
        raise InvalidOptionError(
            f"prefill_lengths must hold at least one length, none above the context of "
            f"{context_length}; got {list(lengths)}"
        )
    return ladder
