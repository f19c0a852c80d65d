"""Runs a model of the ``generate`` layout: one call gives the whole answer."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .completion import Chunk
from .errors import (
    IncompatibleArtifactError,
    InvalidOptionError,
    PromptError,
)
from .generation import Generation, Logits, Request
from .manifest import Manifest, TextFacts
from .runtime import Array
from .sampling import Sampling
from .signature_names import SERVING
from .text_runtime import TextModel
from .tokenizers import Tokenizer


class TextEngine:
    """An ``Engine`` around a graph that takes and gives text.

    The file decides how tokens are chosen and when they end; what a request asks beyond that is
    done with the finished answer (``max_new_tokens``, stop strings, further stop tokens) or refused
    (logprobs, another sampling).
    """

    def __init__(
        self,
        source: str | bytes,
        manifest: Manifest,
        tokenizer: Tokenizer | None,
        *,
        threads: int,
    ) -> None:
        """Open the model, refusing one that is not what the manifest says."""
        if manifest.text is None or tokenizer is None:
            raise IncompatibleArtifactError(
                "the layout 'generate' was expected to say what its text is; the manifest does not"
            )
        self._facts: TextFacts = manifest.text
        self._manifest = manifest
        self._tokenizer = tokenizer
        self._model = TextModel(source, threads=threads, form=manifest.text.form)
        self.signatures = self._model.signatures
        expected = {"prompt"} | ({"noise"} if self._samples else set())
        found = set(self.signatures[SERVING].inputs)
        if found != expected:
            raise IncompatibleArtifactError(
                f"expected the inputs {sorted(expected)}; the model has {sorted(found)}"
            )

    @property
    def max_length(self) -> int:
        """Tokens of prompt and answer together."""
        return self._manifest.model.context_length

    @property
    def _samples(self) -> bool:
        return self._facts.top_k != 1

    def check_usable(self) -> None:
        """Refuse a model that cannot run any more."""
        self._model.check_usable()

    def sampling(self, wanted: Sampling | None) -> Sampling:
        """Return how the file chooses tokens, with the seed that is wanted."""
        facts = self._facts
        seed = wanted.seed if wanted else None
        made = (
            Sampling(temperature=facts.temperature, top_k=facts.top_k, seed=seed)
            if self._samples
            else Sampling.greedy()
        )
        if wanted is not None and wanted != made:
            raise InvalidOptionError(
                f"this file was converted with {made}; it cannot choose tokens with {wanted}: "
                "convert with that sampling, or use the layout 'prefill_decode'"
            )
        return made

    def check_request(self, request: Request) -> None:
        """Refuse logprobs, and prompts whose text the graph would read as other tokens."""
        if request.logprobs is not None:
            raise InvalidOptionError(
                "the layout 'generate' gives no logits, so there are no logprobs; use the layout "
                "'prefill_decode'"
            )
        self._text(request.prompt)

    def chunks(
        self, request: Request, tokenizer: Tokenizer | None, load_s: float
    ) -> Iterator[Chunk]:
        """Run once, then give the tokens one after the other."""
        writer = _FinishedAnswer(self, request)
        yield from Generation(request, tokenizer, load_s).chunks(writer)

    def answer(self, request: Request) -> tuple[int, ...]:
        """Run the model; returns the new tokens, the stop token included."""
        noise: npt.NDArray[np.float32] | None = None
        if self._samples:
            random = np.random.Generator(np.random.PCG64(request.sampling.seed))
            noise = random.random(self.max_length, np.float32)
        result = self._model.generate(self._text(request.prompt), noise)
        return result.tokens[result.prompt_tokens :]

    def _text(self, ids: Sequence[int]) -> bytes:
        """The text that the graph reads as ``ids``."""
        start = self._manifest.tokens.start
        own = list(ids[1:] if start is not None and list(ids[:1]) == [start] else ids)
        text = self._tokenizer.decode(own, name_control_tokens=True)
        whole = own if start is None else [start, *own]
        read = self._tokenizer.encode(text, allow_special_tokens=self._facts.special_tokens)
        if whole != list(ids) or read != own:
            raise PromptError(
                "this file takes text, begins it with the model's start token and reads the names "
                "of control tokens as these tokens; the prompt's tokens are not those of their own "
                "text: pass text with allow_special_tokens=True, or use the layout 'prefill_decode'"
            )
        return text.encode()

    def logits(self, ids: list[int]) -> Iterator[Array]:
        """Refuse: no logits come out."""
        raise InvalidOptionError(
            "the layout 'generate' gives no logits to score with; use the layout 'prefill_decode' "
            "or 'forward'"
        )

    def run(self, signature: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """Run the signature.

        Raises:
            InvalidOptionError: A name, shape or type is not the signature's.
        """
        if signature not in self.signatures:
            raise InvalidOptionError(f"expected the signature {SERVING!r}; got {signature!r}")
        specs = self.signatures[signature].inputs
        if set(arrays) != set(specs):
            raise InvalidOptionError(f"{signature} takes {', '.join(specs)}; got {list(arrays)}")
        for name, spec in specs.items():
            array = arrays[name]
            if not isinstance(array, np.ndarray):
                raise InvalidOptionError(f"{name} must be an array; got {type(array).__name__}")
            shape = (array.size,) if spec.shape == (-1,) else spec.shape
            if (array.shape, array.dtype.name) != (shape, spec.dtype):
                raise InvalidOptionError(
                    f"{name} must be an array of {spec.dtype} with shape {spec.shape}; got "
                    f"{array.dtype.name} with shape {array.shape}"
                )
            if spec.dtype == "object" and not isinstance(array.item(), bytes):
                raise InvalidOptionError(
                    f"{name} must hold one object of the type bytes; got "
                    f"{type(array.item()).__name__}"
                )
        outputs = self._model.call(arrays)
        return {name: outputs[name] for name in self.signatures[signature].outputs}

    def close(self) -> None:
        """Free the model."""
        self._model.close()


class _FinishedAnswer:
    """A ``Writer`` of tokens that are all there once the prompt was read."""

    def __init__(self, engine: TextEngine, request: Request) -> None:
        self._engine = engine
        self._request = request
        self._begun = False
        self._left: deque[int] = deque()

    @property
    def full(self) -> bool:
        if not self._begun:  # a prompt that fills the file leaves no answer
            return len(self._request.prompt) >= self._engine.max_length
        return not self._left

    def read(self, prompt: Sequence[int]) -> tuple[int, Logits | None]:
        del prompt  # the request's own
        self._begun = True
        self._left.extend(self._engine.answer(self._request))
        return self._left.popleft(), None

    def write(self, token: int) -> tuple[int, Logits | None]:
        del token
        return self._left.popleft(), None
