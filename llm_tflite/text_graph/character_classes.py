"""Unicode classes, as the ``tokenizers`` library has them.

They are asked of the library itself when a graph is built: its regular expressions and its
``Digits`` know different versions of Unicode, and Python a third one.
"""

from __future__ import annotations

import functools

import numpy as np
import numpy.typing as npt
import tensorflow as tf

from .arrays import look_up, smallest_integers

OTHER, LETTER, NUMBER, SPACE, APART = range(5)
"""What a character can be; APART is a part of the text that is a token already."""

_CODE_POINTS = 0x110000
_SURROGATES = range(0xD800, 0xE000)
_PAGE = 128

Classes = npt.NDArray[np.uint8]


class ClassTable:
    """A number for every code point, kept in pages of which most are the same."""

    def __init__(self, classes: Classes) -> None:
        pages = [page.tobytes() for page in classes.reshape(-1, _PAGE)]
        numbers = {page: number for number, page in enumerate(dict.fromkeys(pages))}
        self._numbers = smallest_integers([numbers[page] for page in pages])
        self._pages = np.frombuffer(b"".join(numbers), np.uint8)

    def of(self, code_points: tf.Tensor) -> tf.Tensor:
        """Return the class of each code point; that of U+0000 for -1."""
        code_points = tf.maximum(code_points, 0)
        page = look_up(self._numbers, code_points // _PAGE)
        return look_up(self._pages, page * _PAGE + code_points % _PAGE)


@functools.cache
def regex_classes() -> Classes:
    r"""Return the class of every code point for ``\p{L}``, ``\p{N}`` and ``\s``."""
    from tokenizers import Regex, normalizers

    replaced = {r"[^\p{L}\p{N}\s]": "!", r"\p{L}": "a", r"\p{N}": "1", r"\s": " "}
    steps = [normalizers.Replace(Regex(old), new) for old, new in replaced.items()]
    text = normalizers.Sequence(steps).normalize_str(_all_characters())
    numbers = np.zeros(128, np.uint8)
    for character, number in {"!": OTHER, "a": LETTER, "1": NUMBER, " ": SPACE}.items():
        numbers[ord(character)] = number
    return _with_surrogates(numbers[np.frombuffer(text.encode("ascii"), np.uint8)])


@functools.cache
def digit_classes() -> Classes:
    """Return 1 for every code point that the pre-tokenizer ``Digits`` cuts out, 0 for others."""
    from tokenizers import pre_tokenizers

    runs = pre_tokenizers.Digits(individual_digits=False).pre_tokenize_str(_all_characters())
    # Runs of digits and of others take turns, and U+0000 is no digit.
    lengths = [end - start for _, (start, end) in runs]
    return _with_surrogates(np.repeat(np.arange(len(runs)) % 2, lengths).astype(np.uint8))


def _all_characters() -> str:
    codes = np.delete(np.arange(_CODE_POINTS, dtype="<u4"), _SURROGATES)
    return codes.tobytes().decode("utf-32-le")


def _with_surrogates(classes: Classes) -> Classes:
    return np.insert(classes, _SURROGATES.start, np.zeros(len(_SURROGATES), np.uint8))
