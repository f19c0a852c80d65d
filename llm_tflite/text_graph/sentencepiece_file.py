"""What a SentencePiece model says; anything not understood is refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..errors import UnsupportedModelError

BPE, UNIGRAM = "BPE", "UNIGRAM"
_WORD_BOUNDARY = "\u2581"


@dataclass(frozen=True)
class Piece:
    """One token: its name, what kind it is, and how likely."""

    name: str
    kind: str
    score: float

    @property
    def text(self) -> bytes:
        """What it is in text, where "▁" is a space."""
        return self.name.replace(_WORD_BOUNDARY, " ").encode("utf-8")

    @property
    def byte(self) -> int:
        """Which byte it stands for, if its kind is ``BYTE``; its name is ``<0x0A>``."""
        return int(self.name[1:-1], 16)

    @property
    def is_text(self) -> bool:
        """Whether it is found in text."""
        return self.kind in ("NORMAL", "USER_DEFINED")


@dataclass(frozen=True)
class SentencePieceFile:
    """A SentencePiece model.

    Attributes:
        model_type: ``BPE`` or ``UNIGRAM``.
        pieces: By id.
        unknown: The id that stands for unknown characters.
        unknown_text: What it is as text.
        byte_tokens: The ids of the 256 bytes, of which unknown characters are made; or None.
        dummy_prefix: Whether text gets a space before it.
        remove_extra_spaces: Whether spaces at the ends are lost, and all but one elsewhere.
    """

    model_type: str
    pieces: list[Piece]
    unknown: int
    unknown_text: bytes
    byte_tokens: list[int] | None
    dummy_prefix: bool
    remove_extra_spaces: bool

    def ids(self, *kinds: str) -> list[int]:
        """Return the ids of all pieces of some kinds."""
        return [token for token, piece in enumerate(self.pieces) if piece.kind in kinds]

    def bytes_of_tokens(self) -> list[bytes]:
        """Return by id what a token is as text; nothing for control tokens."""
        content = [piece.text if piece.is_text else b"" for piece in self.pieces]
        content[self.unknown] = self.unknown_text
        for token in self.ids("BYTE"):
            content[token] = bytes([self.pieces[token].byte])
        return content


def read_sentencepiece_file(data: bytes) -> SentencePieceFile:
    """Read a model that ``load_tokenizer`` has accepted.

    Raises:
        UnsupportedModelError: It asks for something that has no graph.
    """
    from sentencepiece import sentencepiece_model_pb2

    model: Any = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString(data)
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    model_type = type(trainer).ModelType.Name(trainer.model_type)
    kinds = type(model.pieces[0]).Type
    pieces = [Piece(piece.piece, kinds.Name(piece.type), piece.score) for piece in model.pieces]
    _refuse_unless_plain(model, model_type, pieces)
    byte_ids = {piece.byte: i for i, piece in enumerate(pieces) if piece.kind == "BYTE"}
    return SentencePieceFile(
        model_type=model_type,
        pieces=pieces,
        unknown=next(token for token, piece in enumerate(pieces) if piece.kind == "UNKNOWN"),
        unknown_text=trainer.unk_surface.encode("utf-8"),
        byte_tokens=[byte_ids[i] for i in range(256)] if trainer.byte_fallback else None,
        dummy_prefix=normalizer.add_dummy_prefix,
        remove_extra_spaces=normalizer.remove_extra_whitespaces,
    )


def _refuse_unless_plain(model: Any, model_type: str, pieces: list[Piece]) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    if model_type not in (BPE, UNIGRAM):
        _refuse(f"the model type {BPE} or {UNIGRAM}", model_type)
    if normalizer.precompiled_charsmap:
        _refuse("the identity normalizer", normalizer.name or "one without name")
    if model.denormalizer_spec.precompiled_charsmap:
        _refuse("no denormalizer", model.denormalizer_spec.name or "one without name")
    if not normalizer.escape_whitespaces:
        _refuse("escape_whitespaces", "spaces that stay as they are")
    if trainer.treat_whitespace_as_suffix:
        _refuse("spaces before words", "treat_whitespace_as_suffix")
    for piece in pieces:
        if piece.kind == "UNUSED":
            _refuse("no unused pieces", repr(piece.name))
    texts = [piece.text for piece in pieces if piece.is_text]
    if len(set(texts)) < len(texts):
        _refuse("pieces that differ in more than the form of spaces", "some that do not")


def _refuse(expected: str, found: str) -> None:
    raise UnsupportedModelError(
        f"expected a SentencePiece model with {expected}, found {found}; "
        f"keep the tokenizer outside of the graph"
    )
