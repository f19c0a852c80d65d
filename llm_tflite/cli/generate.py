"""``llm-tflite generate``: continue a prompt."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import PromptError
from .arguments import numbers, sampling
from .output import print_json, print_safe

if TYPE_CHECKING:
    from ..completion import Completion, TokenLogprob

SUMMARY = "Continue a prompt."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    add = parser.add_argument
    add("file", help="a .litertlm or .tflite file of this library")
    add("prompt", help="text, or - for standard input (without the newline at its end)")
    add("--tokens", action="store_true", help="the prompt is token ids, such as 464,2068")
    add("--max-new-tokens", metavar="N", type=int, help="default: until the model stops")
    add("--temperature", metavar="X", type=float, help="default: 0, always the best token")
    add("--top-k", metavar="N", type=int, help="draw from the N best tokens")
    add("--top-p", metavar="X", type=float, help="draw from the best tokens of this probability")
    add("--min-p", metavar="X", type=float, help="draw from tokens this probable next to the best")
    add("--repetition-penalty", metavar="X", type=float, help="above 1: avoid what was said")
    add("--seed", metavar="N", type=int, help="draw the same tokens every time")
    add("--stop", metavar="TEXT", action="append", default=[], help="end before it; repeatable")
    add("--logprobs", metavar="N", type=int, help="log probabilities, and N alternatives each")
    add("--context-window", metavar="N", type=int, help="tokens that the prompt may have")
    add("--trim-prompt", action="store_true", help="leave out the start of a prompt too long")
    add("--context-words", metavar="N", type=int, help="give the model the last N words only")
    add(
        "--text-filter",
        metavar="NAME",
        action="append",
        default=[],
        help="a filter of prompt and answer, such as profanity or profanity:WORDS.txt; repeatable",
    )
    add("--allow-special-tokens", action="store_true", help="read control tokens in the prompt")
    add("--threads", metavar="N", type=int, help="default: 4, or as many as there are")


def run(options: argparse.Namespace, out: TextIO) -> int:
    """Print the answer as it is written; returns the exit code."""
    from ..interpreter import Interpreter

    prompt = _prompt(options)
    with Interpreter(
        options.file, threads=options.threads, text_filters=options.text_filter
    ) as interpreter:
        in_text = interpreter.manifest.tokenizer is not None
        for chunk in interpreter.stream(
            prompt,
            max_new_tokens=options.max_new_tokens,
            sampling=sampling(options),
            stop=options.stop,
            logprobs=options.logprobs,
            context_window=options.context_window,
            trim_prompt=options.trim_prompt,
            context_words=options.context_words,
            allow_special_tokens=options.allow_special_tokens,
        ):
            if not options.json:
                out.write(chunk.text if in_text else "".join(f"{t} " for t in chunk.token_ids))
                out.flush()
            if chunk.completion is not None:
                completion = chunk.completion
    if options.json:
        print_json(_completion_facts(completion), out)
    else:
        out.write("\n")
        out.flush()
        for token in completion.logprobs or ():
            print_safe(_logprob_line(token), sys.stderr)
        print(_figures(completion), file=sys.stderr)
    return 1 if completion.error else 0


def _prompt(options: argparse.Namespace) -> str | list[int]:
    text: str = options.prompt
    if text == "-":
        try:
            text = sys.stdin.buffer.read().decode("utf-8").removesuffix("\n")
        except UnicodeDecodeError as e:
            raise PromptError(f"expected UTF-8 text on standard input; {e}") from e
    if not options.tokens:
        return text
    try:
        return numbers(text)
    except argparse.ArgumentTypeError as e:
        raise PromptError(str(e)) from e


def _completion_facts(completion: Completion) -> dict[str, Any]:
    facts = dataclasses.asdict(completion)
    facts["timings"]["prefill_tokens_per_s"] = completion.timings.prefill_tokens_per_s
    facts["timings"]["decode_tokens_per_s"] = completion.timings.decode_tokens_per_s
    if completion.error:  # in the form of every other error
        facts["error"] = {"type": "RuntimeFailureError", "message": completion.error}
    return facts


def _logprob_line(token: TokenLogprob) -> str:
    others = "".join(f"  {other}:{logprob:.3f}" for other, logprob in token.top)
    return f"{token.token_id:>8} {token.logprob:>9.3f}{others}"


def _figures(completion: Completion) -> str:
    timings = completion.timings
    prompt = f"prompt {completion.prompt_tokens} tokens"
    if completion.trimmed_tokens:
        prompt += f" ({completion.trimmed_tokens} left out)"
    if completion.trimmed_words:
        prompt += f" ({completion.trimmed_words} words left out)"
    ended_by = completion.error or completion.finish_reason
    if completion.filtered_by:
        ended_by = f"the text filter {completion.filtered_by!r}"
    return (
        f"{len(completion.token_ids)} tokens, ended by {ended_by}; {prompt}; "
        f"load {timings.load_s:.2f} s; prefill {timings.prefill_tokens_per_s:.0f} tokens/s; "
        f"decode {timings.decode_tokens_per_s:.1f} tokens/s"
    )
