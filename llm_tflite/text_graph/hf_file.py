"""What a ``tokenizer.json`` of a byte-level BPE says; anything not understood is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from ..errors import CorruptArtifactError, UnsupportedModelError
from ..split_regexes import GPT2
from ..tokenizers import byte_alphabet
from .split_patterns import PATTERNS, LiteralSplitter, NoSplitter, PatternSplitter, Splitter

Section = dict[str, Any]

_SUPPORTED = (
    "supported are ByteLevel with its own regex, alone or behind Digits(individual_digits), and "
    "ByteLevel without it, alone or behind an isolated Split on a string or on the regex of "
    "GPT-2, Llama 3 or Qwen 2"
)


@dataclass(frozen=True)
class AddedToken:
    """A token that is found in text by its name, before anything else."""

    token: int
    name: bytes
    special: bool


@dataclass(frozen=True)
class BytePairFile:
    """A byte-level BPE tokenizer.

    Attributes:
        vocabulary: The ids of pieces in their printable form.
        merges: Pairs of pieces, best first.
        ignore_merges: Whether a word that is in the vocabulary is a token at once.
        added: The tokens that are found by name.
        splitter: What cuts text into words.
        prefix_space: Whether text gets a space before it.
    """

    vocabulary: dict[str, int]
    merges: list[tuple[str, str]]
    ignore_merges: bool
    added: list[AddedToken]
    splitter: Splitter
    prefix_space: bool

    def pieces(self) -> list[bytes]:
        """Return the bytes of every token by id; none for control tokens.

        Raises:
            CorruptArtifactError: A token is not made of bytes.
        """
        added = {entry.token for entry in self.added}
        size = max([*self.vocabulary.values(), *added]) + 1
        pieces = [b""] * size
        for piece, token in self.vocabulary.items():
            if token not in added:
                pieces[token] = bytes_of(piece)
        for entry in self.added:
            pieces[entry.token] = b"" if entry.special else entry.name
        return pieces


def bytes_of(piece: str) -> bytes:
    """Return the bytes of a piece in its printable form.

    Raises:
        CorruptArtifactError: A character stands for no byte.
    """
    alphabet = byte_alphabet()
    try:
        return bytes(alphabet[character] for character in piece)
    except KeyError as e:
        raise CorruptArtifactError(f"the token {piece!r} is not byte-level") from e


def read_byte_pair_file(data: bytes) -> BytePairFile:
    """Read a ``tokenizer.json`` that ``load_tokenizer`` has accepted.

    Raises:
        UnsupportedModelError: It asks for something that has no graph.
        CorruptArtifactError: It lacks something.
    """
    content: Section = json.loads(data)
    model: Section = content["model"]
    _refuse_unless_plain(content, model)
    splitter, prefix_space = _read_pre_tokenizer(content.get("pre_tokenizer"))
    merges = [pair.split(" ") if isinstance(pair, str) else pair for pair in model["merges"]]
    return BytePairFile(
        vocabulary=model["vocab"],
        merges=[(left, right) for left, right in merges],
        ignore_merges=bool(model.get("ignore_merges")),
        added=list(_read_added(data)),
        splitter=splitter,
        prefix_space=prefix_space,
    )


def _refuse_unless_plain(content: Section, model: Section) -> None:
    if model.get("type") != "BPE":
        _refuse(f"a model of type BPE, found {model.get('type')!r}")
    for name in ("normalizer", "truncation", "padding"):
        if content.get(name) is not None:
            found = content[name]
            _refuse(f"no {name}, found {found.get('type', found)!r}")
    for name in (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "fuse_unk",
        "byte_fallback",
    ):
        if model.get(name):
            _refuse(f"no {name} in the BPE model, found {model[name]!r}")


def _read_added(data: bytes) -> Iterator[AddedToken]:
    from tokenizers import Tokenizer

    # Asked of the library, which does not take every id that the file gives.
    added = Tokenizer.from_str(data.decode("utf-8")).get_added_tokens_decoder()
    for token, entry in added.items():
        for flag in ("single_word", "lstrip", "rstrip", "normalized"):
            if getattr(entry, flag):
                _refuse(f"added tokens without {flag}, found it at {entry.content!r}")
        yield AddedToken(token, entry.content.encode("utf-8"), entry.special)


def _read_pre_tokenizer(section: Section | None) -> tuple[Splitter, bool]:
    """What cuts the text, and whether it gets a space before it."""
    steps = _flat_steps(section)
    if not steps or steps[-1]["type"] != "ByteLevel" or len(steps) > 2:
        _refuse_pre_tokenizer(steps)
    byte_level = steps[-1]
    prefix_space = bool(byte_level.get("add_prefix_space"))
    # Behind another step, every part of the text would get a space.
    if prefix_space and len(steps) > 1:
        _refuse_pre_tokenizer(steps)
    splitter = _splitter(steps[:-1], own_regex=byte_level.get("use_regex", True))
    if splitter is None:
        _refuse_pre_tokenizer(steps)
    return splitter, prefix_space


def _flat_steps(section: Section | None) -> list[Section]:
    if section is None:
        return []
    if section["type"] == "Sequence":
        return [step for inner in section["pretokenizers"] for step in _flat_steps(inner)]
    return [section]


def _splitter(steps: list[Section], *, own_regex: bool) -> Splitter | None:
    gpt2 = PATTERNS[GPT2]
    if not steps:
        return PatternSplitter(gpt2) if own_regex else NoSplitter()
    step = steps[0]
    if own_regex:
        digits = step["type"] == "Digits" and step.get("individual_digits")
        return PatternSplitter(gpt2, individual_digits=True) if digits else None
    if step["type"] != "Split" or step.get("behavior") != "Isolated" or step.get("invert"):
        return None
    pattern: dict[str, str] = step["pattern"]
    if "String" in pattern:
        return LiteralSplitter(pattern["String"]) if pattern["String"] else None
    rule = PATTERNS.get(pattern["Regex"])
    return PatternSplitter(rule) if rule else None


def _refuse_pre_tokenizer(steps: list[Section]) -> NoReturn:
    settings = [{name: step[name] for name in step if name != "trim_offsets"} for step in steps]
    raise UnsupportedModelError(
        f"expected a pre-tokenizer that has a graph, found {json.dumps(settings)}; {_SUPPORTED}"
    )


def _refuse(expected_and_found: str) -> NoReturn:
    raise UnsupportedModelError(
        f"expected a byte-level BPE tokenizer with {expected_and_found}; "
        f"keep the tokenizer outside of the graph"
    )
