"""The texts that a file is judged on, as token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ..artifact import Artifact
from ..errors import InvalidOptionError, PromptError
from ..prompt import Ids, Prompt, PromptReader

Texts = str | Sequence[str | Ids]
# A token and what follows it.
_FEWEST_TOKENS = 2


def listed_texts(text: Texts) -> list[Prompt]:
    """Return texts as a list, also where there is but one.

    Raises:
        InvalidOptionError: They are of another kind, or there are none.
    """
    if isinstance(text, str):
        return [text]
    if isinstance(text, bytes) or not isinstance(text, Sequence) or not text:
        raise InvalidOptionError(
            f"text must be a text, or a list of texts or of lists of token ids; got {text!r:.80}"
        )
    if all(isinstance(item, int) for item in text):
        raise InvalidOptionError(
            f"text must be a list of texts or of lists of token ids; got one list of token ids, "
            f"{text!r:.80}: put it into a list"
        )
    return list(text)


def read_texts(artifact: Artifact, text: Texts) -> list[list[int]]:
    """Return each text as the tokens that the artifact makes of it, a start token included.

    Raises:
        InvalidOptionError: The texts are of another kind, or there are none.
        PromptError: One of them cannot reach the model exactly, or has fewer than two tokens.
    """
    reader = PromptReader(artifact.manifest, artifact.tokenizer())
    read = []
    for number, prompt in enumerate(listed_texts(text)):
        try:
            ids = reader.read(prompt, allow_special_tokens=False)
        except PromptError as e:
            raise PromptError(f"text {number}: {e}") from e
        if len(ids) < _FEWEST_TOKENS:
            raise PromptError(
                f"text {number}: expected at least {_FEWEST_TOKENS} tokens, as the first one is "
                f"predicted by none; got {len(ids)}"
            )
        read.append(ids)
    return read


def windows(ids: Sequence[int], length: int) -> Iterator[Sequence[int]]:
    """Cut a text into parts of which the model reads ``length`` tokens and predicts as many.

    Each begins with the last token of the one before, so every token but the first is predicted
    exactly once.
    """
    for start in range(0, len(ids) - 1, length):
        yield ids[start : start + length + 1]
