"""Turn a Keras causal language model into one file, and check the file against the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .artifact import Artifact, write_artifact
from .errors import InvalidOptionError, MissingDependencyError
from .files import PathLike, check_target, require_space, scratch_file
from .manifest import (
    CacheBuffer,
    Library,
    Manifest,
    Quantization,
    QuantizedWeight,
    TokenizerFacts,
    Tokens,
)
from .plugins import load_plugins
from .progress import Progress, Report, reporting
from .quantization import QuantizationStrategy, describe
from .sampling import Sampling
from .tokenizer_assets import TokenizerAsset, asset_from_keras

if TYPE_CHECKING:
    from .conversion.plan import Plan
    from .layouts.core import CoreModel

# The options of each layout; `Converter` describes them.
LAYOUT_OPTIONS = {
    "prefill_decode": ("context_length", "prefill_lengths"),
    "generate": ("max_length", "text", "sampling"),
}


class Converter:
    """Converts one KerasHub causal language model.

    Args:
        model: A ``CausalLM`` of ``keras_hub`` or ``keras_nlp`` in float32 on the TensorFlow
            backend, with a preprocessor, or without one for an artifact of tokens in and tokens
            out.
        layout: ``"prefill_decode"``: signatures with an explicit KV cache, tokens in and logits
            out, for ``Interpreter`` and LiteRT-LM. ``"generate"``: the whole of ``generate`` in one
            signature, text in and text out, tokenizer included, for any TFLite runtime. Both hold
            builtin operations only, unless ``text="string"``.
        quantizer: The name of a strategy (``llm-tflite plugins`` lists them) or a strategy object.
        context_length: (prefill_decode) Tokens of prompt and answer together, the cache's length;
            by default 1024 or the length of the model's position table, whichever is less.
        prefill_lengths: (prefill_decode) T of each ``prefill_{T}`` signature. A prompt is cut into
            these; a small one among them lets the last slots of the context be used.
        max_length: (generate) Tokens of prompt and answer together; by default the preprocessor's
            ``sequence_length``, as in Keras.
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
        context_length: int | None = None,
        prefill_lengths: Sequence[int] | None = None,
        max_length: int | None = None,
        text: str | None = None,
        sampling: Sampling | None = None,
    ) -> None:
        """Check everything that can be checked before work begins."""
        options = {
            "context_length": context_length,
            "prefill_lengths": prefill_lengths,
            "max_length": max_length,
            "text": text,
            "sampling": sampling,
        }
        options = {name: value for name, value in options.items() if value is not None}
        check_options(layout, options)
        try:
            from .tracing.requirements import check_model
        except ImportError as error:
            raise MissingDependencyError(
                f"converting needs {error.name}: pip install 'llm-tflite[convert]'"
            ) from error
        check_model(model)
        self._strategy = load_plugins().quantizer(quantizer)
        self._tokenizer = asset_from_keras(model.preprocessor)
        self._plan = _plan(layout, model, self._tokenizer, options)
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
        suffixes = self._plan.suffixes
        if target.suffix.lower() not in suffixes:
            raise InvalidOptionError(
                f"the path must end in {' or '.join(suffixes)} for the layout "
                f"{self._plan.layout!r}; got {target.suffix or 'no ending'!r}"
            )
        parameters = sum(int(variable.value.shape.num_elements()) for variable in self._weights())
        # About the least that scratch file and artifact take, at four bits; `write_artifact` knows
        # the artifact's exact size and asks again.
        require_space(target.parent, parameters)
        with reporting(progress) as report, scratch_file(path) as (core_path, stream):
            core = self._plan.write(stream, strategy=self._strategy, report=report)
            report(Progress("checking", 0, 1))
            manifest = self._manifest(core, parameters, check=None)
            check = self._plan.check(core_path, manifest, lossless=self._strategy.lossless)
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

    def _manifest(self, core: CoreModel, parameters: int, check: dict[str, Any] | None) -> Manifest:
        tokenizer = self._tokenizer
        return Manifest(
            library=Library("llm_tflite", __version__),
            layout=self._plan.layout,
            model=self._plan.facts(parameters),
            cache=tuple(CacheBuffer(t.name, t.shape, "float32") for t in core.cache),
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


def _plan(
    layout: str, model: Any, tokenizer: TokenizerAsset | None, options: Mapping[str, Any]
) -> Plan:
    from .conversion.generate import GeneratePlan
    from .conversion.prefill_decode import PrefillDecodePlan

    plans: dict[str, Any] = {"prefill_decode": PrefillDecodePlan, "generate": GeneratePlan}
    plan: Plan = plans[layout](model, tokenizer, **options)
    return plan
