"""Characters in UTF-8 bytes. Bytes that are not UTF-8 are characters of their own."""

from __future__ import annotations

from dataclasses import dataclass

import tensorflow as tf

from .arrays import shifted

_LAST_CODE_POINT = 0x10FFFF


@dataclass(frozen=True)
class Characters:
    """What each byte of a text is.

    Attributes:
        leads: Whether a character begins here.
        sizes: How many bytes the character that begins here has.
        code_points: Its code point; -1 for a byte that is not UTF-8 (and for other numbers than
            bytes).
    """

    leads: tf.Tensor
    sizes: tf.Tensor
    code_points: tf.Tensor


def find_characters(text: tf.Tensor) -> Characters:
    """Return the characters of a text.

    Args:
        text: int32 bytes. Numbers that are no bytes (-1) may stand between them.
    """
    tails = [shifted(text, k, -1) for k in (1, 2, 3)]
    bits = [tail - 0x80 for tail in tails]
    sizes = tf.ones_like(text)
    code_points = tf.where(text < 0x80, text, -1)
    complete = tf.ones_like(text, tf.bool)
    value = text
    for size, first, end, least in (
        (2, 0xC0, 0xE0, 0x80),
        (3, 0xE0, 0xF0, 0x800),
        (4, 0xF0, 0xF8, 0x10000),
    ):
        tail = bits[size - 2]
        complete &= (tail >= 0) & (tail < 0x40)
        value = value * 0x40 + tail
        code_point = value - (first << 6 * (size - 1))
        surrogate = (code_point >= 0xD800) & (code_point < 0xE000)
        valid = (text >= first) & (text < end) & complete & ~surrogate
        valid &= (code_point >= least) & (code_point <= _LAST_CODE_POINT)
        sizes = tf.where(valid, size, sizes)
        code_points = tf.where(valid, code_point, code_points)
    inside = tf.zeros_like(text, tf.bool)
    for back in (1, 2, 3):
        inside |= shifted(sizes, -back, 1) > back
    return Characters(~inside, sizes, code_points)
