"""How well a file predicts texts, and how far its predictions are from the float model's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import repeat

import numpy as np
import numpy.typing as npt

from ..errors import RuntimeFailureError
from ..interpreter import Interpreter
from ..progress import Progress
from ..progress import Report as Reporter
from ..sampling import log_probabilities
from .references import Logits, Reference
from .texts import windows

LogProbabilities = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Likelihood:
    """Figures over all predicted tokens of all texts, each token counted once.

    Attributes:
        tokens: How many tokens were predicted.
        perplexity: The file's.
        reference_perplexity: The float model's; this and the following are None without one.
        kl_divergence: Mean of KL(float model || file), in nats per token.
        top1_agreement: Share of places where both find the same token most probable.
    """

    tokens: int
    perplexity: float
    reference_perplexity: float | None
    kl_divergence: float | None
    top1_agreement: float | None


def likelihood(
    interpreter: Interpreter,
    texts: Sequence[Sequence[int]],
    window: int,
    reference: Reference | None,
    report: Reporter,
) -> Likelihood:
    """Let the file predict every token but the first of each text.

    Args:
        interpreter: The open file.
        texts: Token ids, at least two of each.
        window: Tokens that are read at once.
        reference: Reads the same windows.
        report: Called for every window.

    Raises:
        RuntimeFailureError: Scores are not finite.
    """
    parts = [part for ids in texts for part in windows(ids, window)]
    tokens, equal = 0, 0
    own_loss = reference_loss = divergence = 0.0
    for done, part in enumerate(parts):
        report(Progress("predicting texts", done, len(parts)))
        read = part[:-1]
        theirs: Iterable[Logits | None] = reference.logits(read) if reference else repeat(None)
        for following, found, expected in zip(
            part[1:], interpreter.logits(read), theirs, strict=reference is not None
        ):
            own = log_probabilities(found)
            tokens += 1
            own_loss -= own[following]
            if expected is not None:
                if not np.isfinite(expected.max()):
                    raise RuntimeFailureError("the reference's scores are not finite")
                true = log_probabilities(expected)
                reference_loss -= true[following]
                divergence += divergence_of(true, own)
                equal += int(expected.argmax() == found.argmax())
    report(Progress("predicting texts", len(parts), len(parts)))
    return Likelihood(
        tokens=tokens,
        perplexity=float(np.exp(own_loss / tokens)),
        reference_perplexity=float(np.exp(reference_loss / tokens)) if reference else None,
        kl_divergence=max(0.0, divergence / tokens) if reference else None,
        top1_agreement=equal / tokens if reference else None,
    )


def divergence_of(true: LogProbabilities, found: LogProbabilities) -> float:
    """KL(true || found) in nats; tokens that a model rules out with -inf add nothing."""
    possible = true > -np.inf
    return float(np.exp(true[possible]) @ (true[possible] - found[possible]))
