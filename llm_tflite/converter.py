"""Turn a Keras causal language model into one file, and check the file against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .artifact import Artifact, write_artifact
from .errors import InvalidOptionError, MissingDependencyError
from .files import PathLike, check_target, require_space, scratch_file, settle
from .manifest import (
    CacheBuffer,
    Library,
    Manifest,
    Quantization,
    TokenizerFacts,
    Tokens,
)
from .plugins import load_plugins
from .progress import Progress, Report, reporting
from .quantization import (
    QuantizationStrategy,
    describe,
    least_agreement,
    needs_calibration,
    uses_calibration,
)
from .sampling import Sampling
from .tokenizer_assets import Tokenization, TokenizerAsset, asset_from_keras

if TYPE_CHECKING:
    from .conversion.plan import Plan
    from .layouts.core import CoreModel

# The options of each layout; `Converter` describes them.
LAYOUT_OPTIONS = {
    "prefill_decode": ("context_length", "prefill_lengths", "cache_dtype"),
    "generate": ("max_length", "text", "sampling"),
    "forward": ("max_length",),
}


class Converter:
    """Converts one KerasHub causal language model.

    Args:
        model: A ``CausalLM`` of ``keras_hub`` or ``keras_nlp``, or a model with the same methods,
            on the TensorFlow backend; with a preprocessor, or without one for an artifact of tokens
            in and tokens out. It may be in float32, bfloat16, float16 or a mixed policy, have LoRA,
            or be quantized by Keras to int8 or int4. The file computes in float32, on the merged
            weights, each stored as the quantizer says: ``"none"`` stores those of a bfloat16 model
            as float32, exactly; ``"float16"`` takes the room that they had and rounds the smallest.
        layout: ``"prefill_decode"``: signatures with an explicit KV cache, tokens in and logits
            out, for ``Interpreter`` and LiteRT-LM. ``"generate"``: the whole of ``generate`` in one
            signature, text in and text out, tokenizer included, for any TFLite runtime.
            ``"forward"``: one signature from the tokens of a whole text to the logits of every
            position, for scoring. All hold builtin operations only, unless ``text="string"``.
        quantizer: The name of a strategy (``llm-tflite plugins`` lists them) or a strategy object.
        calibration: Some dozens of texts of the kind that the model will read, or lists of token
            ids, for a strategy that measures activations: ``full_integer`` and
            ``full_integer_int16`` need them, those of four bits lose less with them, and best have
            8,000 tokens or more, others refuse them. Each is read as far as the context goes; none
            is kept in the file.
        tokenization: ``"keras"``: text becomes the tokens that Keras makes of it. ``"original"``:
            those that the model's authors make, which KerasHub 0.32 does not for byte-pair
            tokenizers (``original_tokenization.py``); the manifest says which.
        context_length: (prefill_decode) Tokens of prompt and answer together, the cache's length;
            by default 1024, or less where the model's position table ends before that, or its
            short rotary factors do.
        prefill_lengths: (prefill_decode) T of each ``prefill_{T}`` signature. A prompt is cut into
            these; a small one among them lets the last slots of the context be used. A model with
            states, whose calls are never padded, has ``prefill_1`` as well; one that reads a prompt
            in both directions, and so in one call, has one for ``context_length`` tokens.
        cache_dtype: (prefill_decode) The type in which keys and values are kept between calls:
            ``"float32"``, the default; ``"float16"``, half of that memory; ``"int8"``, a quarter,
            with a scale per token and head (``cache_types.py``). Attention computes in float32 on
            a copy of one layer's at a time. States stay float32; the manifest names every type.
        max_length: (generate, forward) Tokens of prompt and answer together, or of a text with its
            padding; by default the preprocessor's ``sequence_length``, as in Keras, and without a
            preprocessor as for ``context_length``.
        text: (generate) ``"bytes"``, the default: uint8 in UTF-8 that ends in one zero byte, in
            and out. ``"string"``: string tensors, by two of TensorFlow's operations, which need a
            runtime with the Flex delegate.
        sampling: (generate) Greedy by default. ``Sampling(temperature=..., top_k=...)`` gives the
            signature a second input, ``noise``: float32 ``[max_length]``, uniform in [0, 1).

    Raises:
        UnsupportedModelError: ``model`` is not of that kind; the message says in which respect.
        InvalidOptionError: An argument has a value that no file could honour, or belongs to another
            layout.
        UnknownPluginNameError: Nobody offers the quantizer.
    """

    def __init__(
        self,
        model: Any,
        *,
        layout: str = "prefill_decode",
        quantizer: str | QuantizationStrategy = "dynamic_range",
        calibration: Sequence[str] | Sequence[Sequence[int]] | None = None,
        tokenization: Tokenization = "keras",
        context_length: int | None = None,
        prefill_lengths: Sequence[int] | None = None,
        cache_dtype: str | None = None,
        max_length: int | None = None,
        text: str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Check everything that can be checked before work begins."""
        options = {
            "context_length": context_length,
            "prefill_lengths": prefill_lengths,
            "cache_dtype": cache_dtype,
            "max_length": max_length,
            "text": text,
            "sampling": sampling,
        }
        options = {name: value for name, value in options.items() if value is not None}
        check_options(layout, options)
        try:
            from .tracing.float_code import float_code
            from .tracing.requirements import check_model
        except ImportError as error:
            raise MissingDependencyError(
                f"converting needs {error.name}: pip install 'llm-tflite[convert]'"
            ) from error
        check_model(model)
        self._strategy = load_plugins().quantizer(quantizer)
        self._tokenizer = asset_from_keras(getattr(model, "preprocessor", None), tokenization)
        with float_code(model):
            self._plan = _plan(layout, model, self._tokenizer, options)
        self._model = model
        _check_calibration(self._strategy, calibration, options)
        self._texts = [] if calibration is None else self._read(calibration)

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
        from .conversion.check_types import check_own_types
        from .tracing.float_code import float_code, own_types

        target = check_target(path, overwrite=overwrite)
        suffixes = self._plan.suffixes
        if target.suffix.lower() not in suffixes:
            raise InvalidOptionError(
                f"the path must end in {' or '.join(suffixes)} for the layout "
                f"{self._plan.layout!r}; got {target.suffix or 'no ending'!r}"
            )
        parameters = self._parameters()
        # About the least that scratch file and artifact take, at four bits; `write_artifact` knows
        # the artifact's exact size and asks again.
        require_space(target.parent, parameters)
        with reporting(progress) as report, scratch_file(path) as (core_path, stream):
            with float_code(self._model):
                strategy = self._calibrated(report) if self._texts else self._strategy
                core = self._plan.write(stream, strategy=strategy, report=report)
                report(Progress("checking", 0, 1))
                settle(stream)  # a runtime counts pages that are not on disk yet as its memory
                manifest = self._manifest(core, strategy, parameters, check=None)
                check = self._plan.check(core_path, manifest, lossless=self._strategy.lossless)
                if self._texts:
                    check["calibration"] = self._check_choices(core_path, manifest)
            if own_types(self._model):
                check["own_types"] = check_own_types(self._model, manifest.model)
            report(Progress("writing", 0, 1))
            artifact = write_artifact(
                path,
                core_path,
                self._tokenizer.data if self._tokenizer else None,
                self._manifest(core, strategy, parameters, check),
                overwrite=overwrite,
            )
            report(Progress("writing", 1, 1))
        return artifact

    def _read(self, calibration: Sequence[str] | Sequence[Sequence[int]]) -> list[list[int]]:
        from .conversion.calibration import read_texts

        facts = self._plan.facts(parameters=0)
        return read_texts(calibration, self._tokenizer, facts.vocabulary_size, facts.context_length)

    def _calibrated(self, report: Report) -> QuantizationStrategy:
        from .conversion.calibration import Calibrated

        return Calibrated.by_texts(self._strategy, self._model, self._texts, report)

    def _check_choices(self, path: Path, manifest: Manifest) -> dict[str, Any]:
        from .conversion.agreement import check_choices

        choices = self._plan.choices(path, manifest, self._texts)
        return check_choices(self._model, choices, least_agreement(self._strategy))

    def _parameters(self) -> int:
        from .tracing.float_weights import float_weights

        return sum(prod(w.shape) for w in float_weights(self._model) if w.dtype == "float32")

    def _manifest(
        self,
        core: CoreModel,
        strategy: QuantizationStrategy,
        parameters: int,
        check: dict[str, Any] | None,
    ) -> Manifest:
        tokenizer = self._tokenizer
        return Manifest(
            library=Library("llm_tflite", __version__),
            layout=self._plan.layout,
            model=self._plan.facts(parameters),
            cache=tuple(CacheBuffer(t.name, t.shape, t.dtype, t.slot_axis) for t in core.cache),
            tokens=Tokens(
                start=tokenizer.start if tokenizer else None,
                stop=tuple(tokenizer.stop) if tokenizer else (),
            ),
            tokenizer=TokenizerFacts(tokenizer.kind, tokenizer.tokenization) if tokenizer else None,
            quantization=Quantization(
                strategy=strategy.name,
                describe=describe(strategy),
                weights=core.weights,
            ),
            text=self._plan.text_facts(),
            check=check,
        )


def check_options(layout: str, options: Mapping[str, Any]) -> None:
    """Refuse a layout that there is not, and options that belong to another one.

    Raises:
        InvalidOptionError: Naming the layouts that would do.
    """
    if layout not in LAYOUT_OPTIONS:
        raise InvalidOptionError(
            f"layout must be one of {', '.join(LAYOUT_OPTIONS)}; got {layout!r}"
        )
    for name in options:
        if name not in LAYOUT_OPTIONS[layout]:
            owners = [other for other, names in LAYOUT_OPTIONS.items() if name in names]
            raise InvalidOptionError(
                f"the layout {layout!r} has no {name}; it belongs to {', '.join(owners)}"
            )


def _check_calibration(
    strategy: QuantizationStrategy, calibration: object, options: Mapping[str, Any]
) -> None:
    if calibration is None and needs_calibration(strategy):
        raise InvalidOptionError(
            f"the quantizer {strategy.name!r} measures activations: pass calibration=[...], some "
            "dozens of texts of the kind that the model will read"
        )
    if calibration is not None and not uses_calibration(strategy):
        raise InvalidOptionError(
            f"the quantizer {strategy.name!r} measures no activations and would ignore "
            "calibration; leave it out, or use 'int4' or 'full_integer'"
        )
    if calibration is not None and options.get("text") == "string":
        raise InvalidOptionError(
            f"text='string' is not known to run with {strategy.name!r}, in the older runtimes that "
            "take strings; use text='bytes' or the quantizer 'dynamic_range'"
        )


def _plan(
    layout: str, model: Any, tokenizer: TokenizerAsset | None, options: Mapping[str, Any]
) -> Plan:
    from .conversion.forward import ForwardPlan
    from .conversion.generate import GeneratePlan
    from .conversion.prefill_decode import PrefillDecodePlan

    plans: dict[str, Any] = {
        "prefill_decode": PrefillDecodePlan,
        "generate": GeneratePlan,
        "forward": ForwardPlan,
    }
    plan: Plan = plans[layout](model, tokenizer, **options)
    return plan
