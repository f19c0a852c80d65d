"""How long a file's greedy answers are those of the float model."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import RuntimeFailureError
from ..interpreter import Interpreter
from ..progress import Progress
from ..progress import Report as Reporter
from .references import Reference


def common_prefixes(
    interpreter: Interpreter,
    prompts: Sequence[Sequence[int]],
    new_tokens: int,
    reference: Reference,
    report: Reporter,
) -> list[int]:
    """Return for each prompt how many greedy tokens are the same until file and float model part.

    Up to there both have read the same text, so the float model need not write: it reads what the
    file wrote, and its best token after each place is what it would have written.

    Args:
        interpreter: The open file.
        prompts: Token ids; each leaves room for an answer.
        new_tokens: Where they are not followed any further. Stop tokens are tokens like others.
        reference: The float model.
        report: Called for every prompt.

    Raises:
        RuntimeFailureError: The file's scores are not finite.
    """
    context = interpreter.manifest.model.context_length
    lengths = []
    for done, prompt in enumerate(prompts):
        report(Progress("continuing texts", done, len(prompts)))
        completion = interpreter.generate(
            prompt,
            max_new_tokens=min(new_tokens, context - len(prompt)),
            stop_token_ids=(),
            context_window=context,
        )
        if completion.error:
            raise RuntimeFailureError(f"the file could not answer: {completion.error}")
        answer = completion.token_ids
        length = 0
        for place, logits in enumerate(reference.logits([*prompt, *answer[:-1]])):
            if place < len(prompt) - 1:
                continue
            if int(np.argmax(logits)) != answer[length]:
                break
            length += 1
        lengths.append(length)
    report(Progress("continuing texts", len(prompts), len(prompts)))
    return lengths


def opening(ids: Sequence[int], context: int) -> Sequence[int]:
    """The first half of a text, or of the context where the text is longer, to be continued."""
    return ids[: max(1, min(len(ids), context) // 2)]
