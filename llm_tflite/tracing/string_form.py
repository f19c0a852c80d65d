"""Text as string tensors, around a graph whose text is bytes.

No builtin operation turns a string into numbers, or numbers into a string. Two of TensorFlow's do,
which a runtime with the Flex delegate has.
"""

from __future__ import annotations

import tensorflow as tf
from flatbuffers import flexbuffers

# The custom operations that the converter makes of these two.
FLEX_OPERATIONS = ("FlexDecodeRaw", "FlexReduceJoin")


def string_to_bytes(string: tf.Tensor) -> tf.Tensor:
    """Return a string ``[1]`` as uint8 ``[N + 1]`` that ends in one zero."""
    raw = tf.reshape(tf.io.decode_raw(string, tf.uint8), [-1])
    return tf.concat([raw, tf.zeros([1], tf.uint8)], 0)


def bytes_to_string(text: tf.Tensor) -> tf.Tensor:
    """Return the ``N`` bytes before the zero that ends uint8 ``[N + 1]`` as a string ``[]``."""
    alphabet = tf.constant([bytes([value]) for value in range(256)])
    return tf.strings.reduce_join(tf.gather(alphabet, tf.cast(text[:-1], tf.int32)))


def ordered_options(options: bytes) -> bytes:
    """Return the custom options of a Flex operation with its attributes in a fixed order.

    The converter writes them in the order of a hash map, which differs from run to run.
    """
    node = flexbuffers.GetRoot(options).AsVector[1].AsStringBytes
    ordered = tf.compat.v1.NodeDef.FromString(node).SerializeToString(deterministic=True)
    return options.replace(node, ordered)
