"""Make a tokenizer out of KerasHub tokenize as the model's authors published it.

KerasHub 0.32 hands the regular expression that cuts text into words, Llama 3's for every family, to
the tokenizers library as a plain string, so that text is not cut at all. A model was trained with
the words of its own expression.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .errors import UnsupportedModelError
from .split_regexes import GPT2, LLAMA3, QWEN2


@dataclass(frozen=True)
class _Original:
    """What a family's own ``tokenizer.json`` says that KerasHub's does not.

    Attributes:
        regex: What cuts the text.
        normal_form: The Unicode normal form that text is brought to before, if any.
        whole_words: Whether a word that is in the vocabulary is a token, whatever merges say.
    """

    regex: str
    normal_form: str | None = None
    whole_words: bool = False


_QWEN = _Original(QWEN2, normal_form="NFC")
# By the KerasHub class.
_ORIGINALS = {
    "GPT2Tokenizer": _Original(GPT2),
    "OPTTokenizer": _Original(GPT2),
    "Llama3Tokenizer": _Original(LLAMA3, whole_words=True),
    "QwenTokenizer": _QWEN,
    "QwenMoeTokenizer": _QWEN,
    "Qwen3Tokenizer": _QWEN,
    "Qwen3MoeTokenizer": _QWEN,
}


def as_original(tokenizer: Any, data: bytes) -> bytes:
    """Return a byte-pair tokenizer as the model's authors published it.

    Args:
        tokenizer: The KerasHub tokenizer; its class says whose it is.
        data: Its ``tokenizer.json``.

    Raises:
        UnsupportedModelError: It is not known how the family's own tokenizer cuts text.
    """
    classes = [cls.__name__ for cls in type(tokenizer).__mro__]
    original = next((_ORIGINALS[name] for name in classes if name in _ORIGINALS), None)
    if original is None:
        raise UnsupportedModelError(
            f"expected a tokenizer whose original form is known ({', '.join(_ORIGINALS)}, or a "
            f"SentencePiece tokenizer); got {classes[0]}: use tokenization='keras'"
        )
    content = json.loads(data)
    *_, byte_level = content["pre_tokenizer"]["pretokenizers"]
    split = {
        "type": "Split",
        "pattern": {"Regex": original.regex},
        "behavior": "Isolated",
        "invert": False,
    }
    content["pre_tokenizer"]["pretokenizers"] = [split, byte_level]
    content["model"]["ignore_merges"] = original.whole_words
    if original.normal_form:
        content["normalizer"] = {"type": original.normal_form}
    return json.dumps(content, ensure_ascii=False).encode("utf-8")
