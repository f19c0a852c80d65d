"""Compare a file that takes and gives text with the Keras model and its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..errors import DisagreementError, IncompatibleArtifactError
from ..files import scratch_file
from ..flatbuffer.model import pack
from ..manifest import Manifest
from ..runtime import return_freed_memory
from ..text_graph import GraphTokenizer
from ..text_runtime import TextModel, TextResult
from ..tokenizer_assets import TokenizerAsset
from ..tokenizers import Tokenizer, load_tokenizer
from ..tracing.reference import keras_logits
from ..tracing.skeleton import convert_function
from ..tracing.text_program import tokenizer_function
from .agreement import FLOAT_TOLERANCE, MOST_CHOICES, Choices, choices_begin
from .bytes_twin import write_bytes_twin

_TEXTS = (
    "The river runs past the old mill, and in the evening the people of the town ",
    'def area(r):\n    return {"r": 3.14159 * r**2}  # don\'t round\n\n',
    "今天天气很好，我们去 кафе с друзьями 😀👍🏽 naïve مرحبا 12,345.67  \t",
)
_CORPUS = (
    *("", " ", "\n", "a", "  two  spaces  ", "\r\n\t \n", "trailing \n\n", "a\x00b", "\x7f\x01"),
    *("don't can't we're they've I'll he'd it's", "'S 'T 'RE it\u2019s", "?!?! ... --", "a--b_c"),
    *("1234567890", "3.14 1,000,000", "½ ² ① ٣٤٥ Ⅷ", "café cafe\u0301 naïve straße ﬁne İ"),
    *("你好，世界！", "日本語テスト", "한국어 문장", "𠀀𠀁", "العربية", "עברית", "हिन्दी", "ไทย"),
    *("😀😀", "👩\u200d👩\u200d👧", "🇺🇸🇩🇪", "a\u00a0b\u3000c\u2009d", "\ufeffx\u200by", "Ġhello Ċ"),
    *("▁x ▁▁y", "<0x0A>", "<s>", "<|endoftext|>", "x<|endoftext|>y", "</s> <unk>", "a" * 200),
    *(" " * 40, "\n" * 20, "!?" * 40, "supercalifragilisticexpialidocious", *_TEXTS),
)
_NEW_TOKENS = 16
# By how much the logits of chosen tokens fall short of the best ones, as a share of what a token
# taken at random falls short of them. A different or damaged model comes to about 1, four bits on
# the smallest models to 0.1 or 0.2.
_LARGEST_REGRET = 0.5


def check_text(
    path: Path,
    manifest: Manifest,
    model: Any,
    asset: TokenizerAsset,
    tokenizer: GraphTokenizer,
    *,
    lossless: bool,
) -> dict[str, Any]:
    """Run the file beside the Keras model and say how far they agree.

    The tokenizer's graph is compared with the host's tokenizer on a corpus of hard texts, and each
    token that the file wrote with what Keras' own forward pass thinks of it. Of a file that takes
    strings the bytes form is run where no runtime has the operations for strings; ``strings`` says
    which it was.

    Returns:
        The figures, for the manifest.

    Raises:
        DisagreementError: Showing what both sides say.
    """
    host = load_tokenizer(asset.kind, asset.data)
    figures: dict[str, Any] = {"tokenizer_texts": _check_tokenizer(tokenizer, host)}
    if manifest.text is not None and manifest.text.form == "string":
        runs, figures["strings"] = _runs_of_strings(path, manifest, host)
    else:
        runs = _runs(path, manifest, host)
    regrets, equal = [], 0
    for run in runs:
        logits = keras_logits(model, run.tokens)[run.prompt_tokens - 1 : -1]
        chosen = logits[np.arange(len(logits)), list(run.tokens[run.prompt_tokens :])]
        best = logits.max(axis=1)
        regrets += list((best - chosen) / (best - logits.mean(axis=1)))
        equal += int((chosen == best).sum())
    # NaN on either side agrees with nothing.
    if not (max(regrets) <= FLOAT_TOLERANCE if lossless else np.mean(regrets) <= _LARGEST_REGRET):
        raise DisagreementError(
            f"the converted model chose tokens that Keras does not: {equal} of {len(regrets)} "
            f"greedy tokens are equal, and those chosen fall short of the best by "
            f"{np.mean(regrets):.3g} of what a random one would. No file was written; convert with "
            "quantizer='none' to see whether quantization is the cause"
        )
    figures["greedy"] = {
        "tokens": len(regrets),
        "equal_tokens": equal,
        "mean_regret": float(np.mean(regrets)),
        "max_regret": float(np.max(regrets)),
    }
    return figures


def choices_of_text(
    path: Path, manifest: Manifest, asset: TokenizerAsset, texts: Sequence[Sequence[int]]
) -> list[Choices]:
    """Let a file of the bytes form continue the beginnings of texts.

    Args:
        path: The converted ``.tflite``.
        manifest: What the file will say of itself.
        asset: The model's tokenizer.
        texts: Token ids, none longer than the context.
    """
    host = load_tokenizer(asset.kind, asset.data)
    start, noise, length = _reading(manifest)
    model = TextModel(str(path))
    choices = []
    try:
        for text in texts:
            prompt = host.decode(text[: choices_begin(text)])
            run = _run(model, prompt, noise, start, host, length)
            chosen = run.tokens[run.prompt_tokens :][:MOST_CHOICES]
            choices.append(Choices(run.tokens[: run.prompt_tokens + len(chosen) - 1], chosen))
    finally:
        model.close()
    return choices


def _check_tokenizer(tokenizer: GraphTokenizer, host: Tokenizer) -> int:
    """Compare both directions on every text of the corpus; returns how many there are."""
    graph = TextModel(pack(convert_function(tokenizer_function(tokenizer), custom=())))
    try:
        for text in _CORPUS:
            raw = np.frombuffer(text.encode() + b"\0", np.uint8)
            outputs = graph.call({"prompt": raw})
            found = outputs["tokens"][: int(outputs["token_count"])].tolist()
            expected = host.encode(text, allow_special_tokens=True)
            if found != expected:
                raise DisagreementError(
                    f"the tokenizer's graph reads {text[:40]!r} as {found[:20]}; expected "
                    f"{expected[:20]}. No file was written"
                )
            written, meant = outputs["text"].tobytes()[:-1], host.decode(expected).encode()
            if written != meant:
                raise DisagreementError(
                    f"the tokenizer's graph writes {expected[:20]} as {written[:40]!r}; expected "
                    f"{meant[:40]!r}. No file was written"
                )
    finally:
        graph.close()
    return len(_CORPUS)


def _runs_of_strings(
    path: Path, manifest: Manifest, host: Tokenizer
) -> tuple[list[TextResult], str]:
    """Run a file of the string form, or else its bytes form; the second value says which."""
    try:
        return _runs(path, manifest, host, form="string"), "run"
    except IncompatibleArtifactError:
        with scratch_file(path) as (twin, stream):
            write_bytes_twin(path, stream)
            return _runs(twin, manifest, host), "not run: no Flex delegate here"


def _runs(
    path: Path,
    manifest: Manifest,
    host: Tokenizer,
    *,
    form: Literal["bytes", "string"] = "bytes",
) -> list[TextResult]:
    """Let the file continue texts that nearly fill it, and one that is too long."""
    start, noise, length = _reading(manifest)
    return_freed_memory()  # the converter's, before as much is taken again
    model = TextModel(str(path), form=form)
    runs = []
    try:
        room = length - min(_NEW_TOKENS, length // 2)
        for text in _TEXTS:
            prompt = host.decode(host.encode(text * length)[: room - len(start)])
            runs.append(_run(model, prompt, noise, start, host, length))
        _run(model, _TEXTS[0] * length, noise, start, host, length)
    finally:
        model.close()
        return_freed_memory()
    return runs


def _reading(manifest: Manifest) -> tuple[list[int], Any, int]:
    """What a text begins with, the noise with which the best token is chosen, and the context."""
    length = manifest.model.context_length
    start = [] if manifest.tokens.start is None else [manifest.tokens.start]
    facts = manifest.text
    noise = None if facts is None or facts.top_k == 1 else np.zeros(length, np.float32)
    return start, noise, length


def _run(
    model: TextModel,
    prompt: str,
    noise: Any,
    start: list[int],
    host: Tokenizer,
    length: int,
) -> TextResult:
    run = model.generate(prompt.encode(), noise)
    read = list(run.tokens[: run.prompt_tokens])
    expected = [*start, *host.encode(prompt, allow_special_tokens=True)][:length]
    # The last token may have begun a character.
    written = run.text.decode("utf-8", "replace").rstrip("\ufffd")
    meant = host.decode(run.tokens).rstrip("\ufffd")
    if read != expected or written != meant:
        raise DisagreementError(
            f"the file reads a prompt as {read[:20]} and writes {written[-40:]!r}; expected "
            f"{expected[:20]} and {meant[-40:]!r}. No file was written"
        )
    return run
