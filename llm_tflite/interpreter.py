"""Opens an artifact and lets it write, score, or run one signature at a time."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import perf_counter
from types import TracebackType
from typing import Self, TypedDict, Unpack

from .artifact import Artifact
from .cache_engine import CacheEngine
from .completion import Chunk, Completion, Score
from .engine import Engine
from .errors import (
    ContextOverflowError,
    CorruptArtifactError,
    IncompatibleArtifactError,
    InvalidOptionError,
    PromptError,
)
from .files import PathLike, open_regular
from .forward_engine import ForwardEngine
from .generation import Request, token_logprob
from .manifest import Manifest
from .options import check_integer
from .plugins import load_plugins
from .prompt import Prompt, PromptReader, last_words_of
from .runtime import Array, Signature, thread_count
from .sampling import Sampling
from .text_filter import TextFilter, check_prompt
from .tokenizers import Tokenizer

_MAX_LOGPROBS = 20


class GenerationOptions(TypedDict, total=False):
    """Keyword arguments of ``Interpreter.generate`` and ``Interpreter.stream``; all optional.

    Attributes:
        max_new_tokens: How many tokens to write at most; None writes until a stop token or until
            the context is full.
        sampling: How to choose tokens; None is ``Sampling.greedy()``.
        stop: A string, or several, that end the answer and are left out of it.
        stop_token_ids: Tokens that end the answer; None for those of the artifact.
        logprobs: Return the log probability of every new token and of this many alternatives,
            0 to 20.
        allow_special_tokens: Read control tokens written out in the prompt, such as
            ``<|endoftext|>``, as these tokens; otherwise they are text like any other.
        context_window: How many tokens the prompt may have, instead of the interpreter's.
        trim_prompt: Leave out the beginning of a prompt that is longer, instead of refusing it.
        context_words: Give the model the last words of a text only, at most this many; a word is
            what stands between white space. ``Completion.trimmed_words`` says how many were left
            out. The window in tokens holds for what is left.
    """

    max_new_tokens: int | None
    sampling: Sampling | None
    stop: str | Iterable[str]
    stop_token_ids: Iterable[int] | None
    logprobs: int | None
    allow_special_tokens: bool
    context_window: int | None
    trim_prompt: bool
    context_words: int | None


class Interpreter:
    """An artifact that is open and answers.

    It may be used from many threads at once: each generation has its own cache, runs of the model
    take turns, and results are the same as alone. One open interpreter does not notice when its
    file is replaced or deleted (overwriting a ``.tflite`` in place, as ``cp`` does, is not safe).

    A ``.tflite`` artifact is mapped; the model in a ``.litertlm`` artifact is read into memory,
    since the runtime maps whole files only. Peak memory of GPT-2 124M int8 (130 MB) with a context
    of 1,024: 505 MB mapped, 590 MB read.

    Args:
        source: Path of an artifact, or its bytes.
        threads: Threads of one run; by default 4, or as many as the machine has.
        context_window: How many tokens a prompt may have, which leaves the rest of the context for
            the answer; by default half of the context length.
        text_filters: Filters by name, such as "profanity" or "profanity:MY_WORDS.txt", or objects.
            A prompt that one of them refuses is not run; an answer is held back as long as it may
            still be refused, and ends there, see docs/safety.md.

    Raises:
        ArtifactNotFoundError: There is no file at the path.
        CorruptArtifactError: It was changed since it was written; none of it was run.
        IncompatibleArtifactError: Another program or a later version wrote it.
        MissingOpsError: Nothing here runs one of its operations.
        InvalidOptionError: ``threads`` or ``context_window`` is out of range, or there is no text
            for a filter to read.
        UnknownPluginNameError: Nobody offers a text filter.
        RuntimeFailureError: The runtime refused the model.
    """

    def __init__(
        self,
        source: PathLike | bytes,
        *,
        threads: int | None = None,
        context_window: int | None = None,
        text_filters: Sequence[str | TextFilter] = (),
    ) -> None:
        """Verify the artifact, then open it."""
        began = perf_counter()
        threads = thread_count(threads)
        self._filters = _text_filters(text_filters)
        with _verified(source) as (artifact, model):
            self._manifest = artifact.manifest
            self._context_window = self._window(context_window, self._context_length // 2)
            self._tokenizer = artifact.tokenizer()
            if self._filters and self._tokenizer is None:
                raise InvalidOptionError(
                    "text filters read text, and this artifact has no tokenizer: it takes and "
                    "gives token ids only"
                )
            self._reader = PromptReader(self._manifest, self._tokenizer)
            self._engine = _engine(model, self._manifest, self._tokenizer, threads)
        self._load_s = perf_counter() - began

    @property
    def manifest(self) -> Manifest:
        """What the artifact says of itself."""
        return self._manifest

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The entry points of the model, with shapes and types, as ``run`` takes them."""
        return self._engine.signatures

    def generate(self, prompt: Prompt, **options: Unpack[GenerationOptions]) -> Completion:
        """Return the whole answer to a prompt; arguments and errors are those of ``stream``."""
        chunks = self.stream(prompt, **options)
        return next(chunk.completion for chunk in chunks if chunk.completion is not None)

    def stream(self, prompt: Prompt, **options: Unpack[GenerationOptions]) -> Iterator[Chunk]:
        """Answer a prompt token by token.

        Arguments are checked at once; the model runs when the iterator is advanced. A stream may
        be abandoned at any point.

        Args:
            prompt: Text, or token ids that are taken exactly as they are. Text begins with the
                model's start token if it has one.
            **options: See ``GenerationOptions``.

        Returns:
            One chunk per new token, then one that holds the completion.

        Raises:
            PromptError: The prompt cannot reach the model exactly as given.
            FilteredPromptError: A text filter refuses the prompt.
            ContextOverflowError: The prompt is longer than the context window.
            InvalidOptionError: An option has a value that no answer could honour, or the artifact's
                layout writes no text.
            ClosedError: The interpreter was closed, perhaps in the middle of the stream.
        """
        self._engine.check_usable()
        request = self._request(prompt, **options)
        self._engine.check_request(request)
        return self._engine.chunks(request, self._tokenizer, self._load_s)

    def score(self, prompt: Prompt, *, allow_special_tokens: bool = False) -> Score:
        """Return how probable the model finds a text, token by token.

        A model that reads prompts in both directions takes the text for an answer to none.

        Raises:
            PromptError: The prompt cannot reach the model exactly as given, or has fewer than two
                tokens, the start token included.
            ContextOverflowError: It is longer than the context.
            InvalidOptionError: The artifact's layout gives no logits.
            RuntimeFailureError: The model's scores are not finite.
        """
        self._engine.check_usable()
        ids = self._reader.read(prompt, allow_special_tokens=allow_special_tokens)
        if len(ids) < 2:
            raise PromptError("expected at least two tokens to score: the first one predicts none")
        self._check_fits(ids, self._context_length + 1, "scored")
        scores = zip(ids[1:], self._engine.logits(ids[:-1]), strict=True)
        return Score(tuple(token_logprob(token, logits) for token, logits in scores))

    def logits(self, prompt: Prompt, *, allow_special_tokens: bool = False) -> Iterator[Array]:
        """Read a text and give what the model says of it, token by token.

        Returns:
            After each token, the scores of every token that could follow: float32 ``[V]``. The
            model runs when the iterator is advanced, which may be given up at any point.

        Raises:
            PromptError: The prompt cannot reach the model exactly as given.
            ContextOverflowError: It is longer than the context.
            InvalidOptionError: The artifact's layout gives no logits.
            RuntimeFailureError: The model's scores are not finite.
        """
        self._engine.check_usable()
        ids = self._reader.read(prompt, allow_special_tokens=allow_special_tokens)
        self._check_fits(ids, self._context_length, "read")
        return self._engine.logits(ids)

    def tokenize(self, text: str, *, allow_special_tokens: bool = False) -> list[int]:
        """Return the tokens of a text, without a start token.

        Raises:
            PromptError: It cannot be tokenized, or the artifact has no tokenizer.
        """
        self._engine.check_usable()
        if not isinstance(text, str):
            raise PromptError(f"expected text; got {type(text).__name__}")
        tokenizer = self._reader.tokenizer
        return tokenizer.encode(str(text), allow_special_tokens=allow_special_tokens)

    def detokenize(self, ids: Sequence[int]) -> str:
        """Return the text of tokens.

        Raises:
            PromptError: An id is outside the vocabulary, or the artifact has no tokenizer.
        """
        self._engine.check_usable()
        return self._reader.tokenizer.decode(self._reader.check_ids(ids))

    def run(self, signature: str, **arrays: Array) -> dict[str, Array]:
        """Run one signature on arrays of exactly its shapes and types.

        Args:
            signature: One of ``signatures``.
            **arrays: The inputs by name. Caches that are left out are zeros. Positions count up;
                those of pads are 0 where a prompt is read in both directions, and end it.

        Returns:
            Every output by name, the updated caches among them.

        Raises:
            InvalidOptionError: A name, shape or type is not the signature's.
            PromptError: A token is outside the vocabulary.
            ContextOverflowError: The positions are not consecutive slots of the cache.
        """
        self._engine.check_usable()
        return self._engine.run(signature, arrays)

    def close(self) -> None:
        """Free the model. Calls after this raise ``ClosedError``; closing again does nothing."""
        self._engine.close()

    def __enter__(self) -> Self:
        """Use the interpreter in a ``with`` block, which closes it."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the interpreter."""
        self.close()

    @property
    def _context_length(self) -> int:
        return self._manifest.model.context_length

    def _check_fits(self, ids: list[int], most: int, what: str) -> None:
        if len(ids) > most:
            raise ContextOverflowError(
                f"at most {most} tokens can be {what} at once; got {len(ids)}: give the text in "
                "parts"
            )

    def _window(self, value: int | None, default: int) -> int:
        if value is None:
            return max(1, default)
        return check_integer("context_window", value, 1, self._context_length)

    def _request(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int | None = None,
        sampling: Sampling | None = None,
        stop: str | Iterable[str] = (),
        stop_token_ids: Iterable[int] | None = None,
        logprobs: int | None = None,
        allow_special_tokens: bool = False,
        context_window: int | None = None,
        trim_prompt: bool = False,
        context_words: int | None = None,
    ) -> Request:
        window = self._window(context_window, self._context_window)
        if max_new_tokens is not None:
            check_integer("max_new_tokens", max_new_tokens, 0)
        if logprobs is not None:
            check_integer("logprobs", logprobs, 0, _MAX_LOGPROBS)
        if not isinstance(sampling, Sampling | None):
            raise InvalidOptionError(f"sampling must be a Sampling; got {sampling!r}")
        sampling = self._engine.sampling(sampling)
        stop_strings = (stop,) if isinstance(stop, str) else tuple(stop)
        if not all(isinstance(text, str) and text for text in stop_strings):
            raise InvalidOptionError(f"stop must be one or more non-empty strings; got {stop!r}")
        if stop_strings and self._tokenizer is None:
            raise InvalidOptionError("this artifact has no text to stop at; use stop_token_ids")
        if stop_token_ids is None:
            stop_token_ids = self._manifest.tokens.stop
        last_token = self._manifest.model.vocabulary_size - 1
        stop_tokens = [check_integer("stop_token_ids", i, 0, last_token) for i in stop_token_ids]
        prompt_text = self._filtered(prompt) if self._filters else ""
        prompt, trimmed_words = last_words_of(prompt, context_words)
        ids = self._reader.read(prompt, allow_special_tokens=allow_special_tokens)
        ids, trimmed = self._reader.fit(ids, window, trim=trim_prompt)
        return Request(
            prompt=ids,
            trimmed_words=trimmed_words,
            filters=self._filters,
            prompt_text=prompt_text,
            trimmed_tokens=trimmed,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            stop=stop_strings,
            stop_token_ids=frozenset(stop_tokens),
            logprobs=logprobs,
        )

    def _filtered(self, prompt: Prompt) -> str:
        """Return the text of a prompt that all filters let through."""
        text = (
            prompt if isinstance(prompt, str) else self.detokenize(self._reader.check_ids(prompt))
        )
        check_prompt(self._filters, text)
        return text


def _text_filters(choices: Sequence[str | TextFilter]) -> tuple[TextFilter, ...]:
    if isinstance(choices, str) or not isinstance(choices, Iterable):
        raise InvalidOptionError(
            f"text_filters must be a sequence of names or filters, as ['profanity']; got "
            f"{choices!r:.80}"
        )
    return tuple(load_plugins().text_filter(choice) for choice in choices)


@contextmanager
def _verified(source: PathLike | bytes) -> Iterator[tuple[Artifact, str | bytes]]:
    """Yield an artifact whose every byte was compared with its digest, and its model's place."""
    if isinstance(source, bytes):
        artifact = Artifact.from_bytes(source)
        artifact.verify()
        begin, end = artifact.model_section()
        yield artifact, source[begin:end]
        return
    with open_regular(source) as stream:
        artifact = Artifact.open(source)
        artifact.verify()
        begin, end = artifact.model_section()
        # What was verified was found by its name; what is run is the file that is open here.
        if not os.path.samestat(os.fstat(stream.fileno()), os.stat(source)):
            raise CorruptArtifactError(
                f"{source} was replaced while it was being opened; try again"
            )
        if begin > 0:
            stream.seek(begin)
            yield artifact, stream.read(end - begin)
            return
        descriptor = Path(f"/dev/fd/{stream.fileno()}")
        yield artifact, str(descriptor if descriptor.exists() else Path(source))


def _engine(
    model: str | bytes, manifest: Manifest, tokenizer: Tokenizer | None, threads: int
) -> Engine:
    """Open a model by the layout that its manifest names."""
    if manifest.layout == "prefill_decode":
        return CacheEngine(model, manifest, threads=threads)
    if manifest.layout == "generate":
        from .text_engine import TextEngine

        return TextEngine(model, manifest, tokenizer, threads=threads)
    if manifest.layout == "forward":
        return ForwardEngine(model, manifest, threads=threads)
    raise IncompatibleArtifactError(
        "this library runs the layouts 'prefill_decode', 'generate' and 'forward'; got "
        f"{manifest.layout!r}"
    )
