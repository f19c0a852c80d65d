"""The ``tokenizer.json`` of a tokenizer that takes the longest token that fits, again and again.

That is RWKV's. The tokenizers library knows it as WordPiece: with no mark before the pieces inside
a word, it looks for the longest piece from where the last one ended. Its time grows with the third
power of a word's length, so the text is cut into tokens before, by one expression that holds the
vocabulary as a tree; WordPiece gives them their ids, and cuts characters that are no token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from .errors import UnsupportedModelError
from .tokenizers import byte_alphabet

_MODEL = {
    "type": "WordPiece",
    # Asked for by the library, never met: every byte has a token.
    "unk_token": "",
    "continuing_subword_prefix": "",
    # A longer word would be one unknown token.
    "max_input_chars_per_word": 2**31 - 1,
}
# The expressions of LiteRT-LM are not nested as deeply as a long word has characters.
_LEVELS = 12
_BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": False,
    "trim_offsets": True,
    "use_regex": False,
}


def write_longest_match(tokens: Mapping[int, bytes]) -> bytes:
    """Return the ``tokenizer.json`` of a vocabulary.

    Args:
        tokens: The bytes of each token id.

    Raises:
        UnsupportedModelError: A byte has no token, a token has no bytes or several ids, or it is
            a part of two characters.
    """
    known = set(tokens.values())
    if missing := [bytes([byte]) for byte in range(256) if bytes([byte]) not in known]:
        raise UnsupportedModelError(
            f"expected a vocabulary with a token for each of the 256 bytes; it has none for "
            f"{len(missing)}, the first of them {missing[0]!r}: add them"
        )
    if b"" in known or len(known) < len(tokens):
        raise UnsupportedModelError(
            "expected tokens with bytes, all of them different; "
            "some have none or those of another token: remove these"
        )
    if torn := [data for data in known if _text(data) is None and not _is_in_one_character(data)]:
        raise UnsupportedModelError(
            f"expected tokens of whole characters, or of a part of one; "
            f"{min(torn)!r} is a part of several: remove it"
        )
    return json.dumps(_content(tokens), ensure_ascii=False).encode("utf-8")


def read_longest_match(data: bytes) -> dict[int, bytes] | None:
    """Return the tokens of a ``tokenizer.json`` of the form written here, None for any other.

    Args:
        data: A file that ``load_tokenizer`` has accepted.
    """
    content = json.loads(data)
    if content["model"].get("type") != _MODEL["type"]:
        return None
    alphabet = byte_alphabet()
    vocabulary = content["model"]["vocab"]
    if not alphabet.keys() >= set("".join(vocabulary)):
        return None
    tokens = {
        token: bytes(alphabet[character] for character in piece)
        for piece, token in vocabulary.items()
    }
    # Any other setting might cut text elsewhere.
    return tokens if content == _content(tokens) else None


def _content(tokens: Mapping[int, bytes]) -> dict[str, Any]:
    characters = {byte: character for character, byte in byte_alphabet().items()}
    words = [word for data in tokens.values() if (word := _text(data)) is not None]
    split = {
        "type": "Split",
        "pattern": {"Regex": rf"{_longest_of(words)}|[\s\S]"},
        "behavior": "Isolated",
        "invert": False,
    }
    vocabulary = {
        "".join(characters[byte] for byte in data): token for token, data in tokens.items()
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, _BYTE_LEVEL]},
        "post_processor": None,
        "decoder": _BYTE_LEVEL,
        "model": {**_MODEL, "vocab": vocabulary},
    }


def _longest_of(words: Iterable[str], levels: int = _LEVELS) -> str:
    """The expression that finds the longest of some words.

    Words that begin alike share that part, so that a search compares every character of the text
    with those that may stand there, not with every word; behind the last level, with every word.
    """
    if not levels:
        return f"(?:{'|'.join(map(re.escape, sorted(words, key=len, reverse=True)))})"
    endings: dict[str, list[str]] = {}
    for word in words:
        endings.setdefault(word[0], []).append(word[1:])
    choices, lone = [], ""
    for first, rests in endings.items():
        if longer := [rest for rest in rests if rest]:
            optional = "?" if len(longer) < len(rests) else ""
            after = (
                f"(?:{re.escape(longer[0])})"
                if len(longer) == 1
                else _longest_of(longer, levels - 1)
            )
            choices.append(f"{re.escape(first)}{after}{optional}")
        else:
            lone += re.escape(first)
    return f"(?:{'|'.join([*choices, *([f'[{lone}]'] if lone else [])])})"


def _text(data: bytes) -> str | None:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return None


def _is_in_one_character(data: bytes) -> bool:
    """Whether no character begins behind the first byte."""
    return all(byte & 0xC0 == 0x80 for byte in data[1:])
