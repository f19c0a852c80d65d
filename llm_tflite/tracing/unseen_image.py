"""Models that may be given an image before a text, and are given none.

``generate_step`` of such a model asks for an image, ``call_with_cache`` does without: the language
model alone is left, in which a text begins at position 0.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class UnseenImage:
    """What a model would make of an image.

    Attributes:
        shape: Of the image that ``generate_step`` asks for, ``(1, height, width, channels)``.
        slots: How many slots of the cache it would take, before the text.
    """

    shape: tuple[int, ...]
    slots: int

    @staticmethod
    def of(model: Any) -> UnseenImage | None:
        """Describe the image that a model can do without; None if it asks for none, or insists."""
        parameters = inspect.signature(model.call_with_cache).parameters
        optional = "img_embeddings" in parameters and parameters["img_embeddings"].default is None
        slots = getattr(model.backbone, "image_sequence_length", None)
        if not optional or slots is None:
            return None
        return UnseenImage((1, *model.backbone.input["images"].shape[1:]), slots)
