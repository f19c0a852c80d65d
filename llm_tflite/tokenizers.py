"""Text to token ids and back, on the host, for the two forms of tokenizer that artifacts carry."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from typing import Any, Literal, Protocol

from .errors import CorruptArtifactError, IncompatibleArtifactError, InvalidOptionError, PromptError

Kind = Literal["hf", "sentencepiece"]

# What the tokenizers library takes for an id.
_LARGEST_ID = 2**32 - 1


class Tokenizer(Protocol):
    """What every tokenizer can do. Tokenizers hold no state and may be shared between threads."""

    kind: Kind

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows; the model's own table may be longer."""

    def encode(self, text: str, *, allow_special_tokens: bool = False) -> list[int]:
        """Return the ids of ``text``.

        Args:
            text: Any text. No start token is added.
            allow_special_tokens: Whether the name of a control token (``<|endoftext|>``) stands for
                that token. By default it is text like any other, as a user may have typed it.

        Raises:
            PromptError: The text holds half of a surrogate pair and has no UTF-8 form.
        """

    def decode(self, ids: Iterable[int], *, name_control_tokens: bool = False) -> str:
        """Return the text of a whole sequence, without control tokens or with their names."""

    def token_bytes(self, token: int) -> bytes:
        """Return what one token adds to a continuation; nothing for control and unknown ids.

        The bytes of a sequence, joined, are its text in UTF-8; those of one token may be a part of
        a character.
        """


def load_tokenizer(kind: str, data: bytes) -> Tokenizer:
    """Load a tokenizer from the form in which an artifact carries it.

    Args:
        kind: ``"hf"`` (a byte-level ``tokenizer.json``) or ``"sentencepiece"`` (a model proto).
        data: The file's bytes.

    Raises:
        CorruptArtifactError: The bytes are not such a tokenizer.
        IncompatibleArtifactError: It is a tokenizer of another kind.
    """
    if kind == "hf":
        return ByteLevelTokenizer(data)
    if kind == "sentencepiece":
        return SentencePieceTokenizer(data)
    raise IncompatibleArtifactError(f"expected a tokenizer 'hf' or 'sentencepiece'; got {kind!r}")


class ByteLevelTokenizer:
    """A byte-level tokenizer: the byte pairs of GPT-2, Llama 3 and most others, and RWKV's.

    Attributes:
        algorithm: How tokens are found, in the words of ``tokenizer.json``, such as ``"BPE"``.
    """

    kind: Kind = "hf"

    def __init__(self, data: bytes) -> None:
        """Load a ``tokenizer.json``; see ``load_tokenizer``."""
        import tokenizers

        try:
            text = data.decode("utf-8")
            self._plain = self._special = tokenizers.Tokenizer.from_str(text)
            self._added = self._plain.get_added_tokens_decoder()
            if self._added:
                # A copy, because the choice is a property that calls from other threads would see.
                self._special = tokenizers.Tokenizer.from_str(text)
            content = json.loads(text)
            decoder = content.get("decoder") or {}
            self.algorithm = str(content["model"]["type"])
        except Exception as e:  # the library raises plain Exception for whatever it dislikes
            raise CorruptArtifactError(f"the tokenizer cannot be read: {e}") from e
        if decoder.get("type") != "ByteLevel":
            raise IncompatibleArtifactError(
                f"expected a byte-level tokenizer.json; its decoder is {decoder.get('type')!r}"
            )
        self._plain.encode_special_tokens = True

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows; the model's own table may be longer."""
        return int(self._plain.get_vocab_size())

    def encode(self, text: str, *, allow_special_tokens: bool = False) -> list[int]:
        """Return the ids of ``text``; see ``Tokenizer.encode``."""
        _check_text(text)
        tokenizer = self._special if allow_special_tokens else self._plain
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Iterable[int], *, name_control_tokens: bool = False) -> str:
        """Return the text of a whole sequence; see ``Tokenizer.decode``."""
        parts = [
            str(self._added[token].content).encode()
            if name_control_tokens and token in self._added
            else self.token_bytes(token)
            for token in ids
        ]
        return b"".join(parts).decode("utf-8", "replace")

    def token_bytes(self, token: int) -> bytes:
        """Return what one token adds to a continuation; nothing for control and unknown ids."""
        _check_id(token)
        if token in self._added:
            added = self._added[token]
            return b"" if added.special else str(added.content).encode("utf-8")
        piece = self._plain.id_to_token(token) if token <= _LARGEST_ID else None
        alphabet = byte_alphabet()
        try:
            return bytes(alphabet[character] for character in piece or "")
        except KeyError as e:
            raise CorruptArtifactError(f"token {token} ({piece!r}) is not byte-level") from e


class SentencePieceTokenizer:
    """A SentencePiece model: Llama 1 and 2, Mistral, Gemma.

    Control pieces (``<s>``) are never found in text unless asked for. User-defined pieces (Gemma's
    ``<start_of_turn>``) always are, as in Keras: for SentencePiece they are ordinary vocabulary.
    """

    kind: Kind = "sentencepiece"

    def __init__(self, data: bytes) -> None:
        """Load a model proto; see ``load_tokenizer``."""
        import sentencepiece

        if not data:  # the library accepts it and answers every question with 0
            raise CorruptArtifactError("the tokenizer is empty")
        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=data)
        except (RuntimeError, ValueError, OSError) as e:
            raise CorruptArtifactError(f"the tokenizer cannot be read: {e}") from e
        self._controls = {
            self._processor.id_to_piece(i): i
            for i in range(self.vocabulary_size)
            if self._processor.is_control(i)
        }

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows; the model's own table may be longer."""
        return int(self._processor.vocab_size())

    def encode(self, text: str, *, allow_special_tokens: bool = False) -> list[int]:
        """Return the ids of ``text``; see ``Tokenizer.encode``.

        With special tokens allowed, the text between two of them is encoded on its own.
        """
        _check_text(text)
        ids: list[int] = []
        for part in self._split_controls(text) if allow_special_tokens else [text]:
            control = self._controls.get(part) if allow_special_tokens else None
            ids += self._processor.encode(part, out_type=int) if control is None else [control]
        return ids

    def decode(self, ids: Iterable[int], *, name_control_tokens: bool = False) -> str:
        """Return the text of a whole sequence; see ``Tokenizer.decode``."""
        texts, known = [], list[int]()
        for token in ids:
            _check_id(token)
            if token >= self.vocabulary_size:
                continue
            if not self._processor.is_control(token):
                known.append(int(token))
            elif name_control_tokens:
                texts += [str(self._processor.decode(known)), self._processor.id_to_piece(token)]
                known = []
        return "".join([*texts, str(self._processor.decode(known))])

    def token_bytes(self, token: int) -> bytes:
        """Return what one token adds to a continuation; nothing for control and unknown ids."""
        _check_id(token)
        if token >= self.vocabulary_size or self._processor.is_control(token):
            return b""
        piece = str(self._processor.id_to_piece(token))
        if self._processor.is_byte(token):  # written "<0x0A>"
            return bytes([int(piece[1:-1], 16)])
        if self._processor.is_unknown(token):
            return str(self._processor.decode([token])).encode("utf-8")
        return piece.replace("\u2581", " ").encode("utf-8")

    def _split_controls(self, text: str) -> list[str]:
        import re

        pattern = "|".join(map(re.escape, sorted(self._controls, key=len, reverse=True)))
        return [part for part in re.split(f"({pattern})", text) if part] if pattern else [text]


@functools.cache
def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable stand-ins for the 256 bytes (``bytes_to_unicode`` of openai/gpt-2)."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    alphabet = {chr(byte): byte for byte in printable}
    return alphabet | {chr(256 + i): byte for i, byte in enumerate(others)}


def _check_text(text: str) -> None:
    if not isinstance(text, str):
        raise PromptError(f"expected a prompt of type str; got {type(text).__name__}")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as e:
        raise PromptError(
            f"expected text with a UTF-8 form; the character at position {e.start} is half of a "
            f"surrogate pair: decode the source with errors='replace'"
        ) from e


def _check_id(token: int) -> None:
    if token < 0:
        raise InvalidOptionError(f"expected token ids of 0 or more; got {token}")
