"""The command line: ``llm-tflite convert | generate | inspect | plugins``.

Standard output carries the result and nothing else: text, or one JSON document with ``--json``.
Progress, figures and messages go to standard error. Exit codes: 0 done, 1 refused or failed,
2 wrong usage, 130 interrupted, 141 nobody reads the output any more.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from ._version import __version__
from .errors import ConversionError, LLMTFLiteError, MissingDependencyError, PromptError

if TYPE_CHECKING:
    from .completion import Completion, TokenLogprob
    from .sampling import Sampling

_FAILED, _USAGE, _INTERRUPTED, _BROKEN_PIPE = 1, 2, 130, 141


class _UsageError(Exception):
    """The command line is not one that we know; the text holds the usage too."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError(f"{self.format_usage()}{self.prog}: error: {message}")


def main() -> NoReturn:
    """Run the command of this process and end it."""
    code = run(sys.argv[1:])
    # At the very end the runtime reports what it frees, and nobody is left to catch that.
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError):
        os.dup2(nowhere.fileno(), 2)
    sys.exit(code)


def run(arguments: Sequence[str]) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name.

    Returns:
        The exit code.
    """
    out = sys.stdout
    if isinstance(out, io.TextIOWrapper):
        out.reconfigure(errors="replace")  # an answer may hold what the terminal cannot show
    try:
        code = _run(arguments, out)
        out.flush()
    except BrokenPipeError:
        # Python flushes once more at its end, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), out.fileno())
        return _BROKEN_PIPE
    return code


def _run(arguments: Sequence[str], out: TextIO) -> int:
    try:
        options = _parser().parse_args(arguments)
        # Plugins, Keras and progress bars that print must not spoil the result.
        with contextlib.redirect_stdout(sys.stderr):
            code: int = options.run(options, out)
        return code
    except _UsageError as e:
        code, kind, message = _USAGE, "UsageError", str(e)
    except LLMTFLiteError as e:
        code, kind, message = _FAILED, type(e).__name__, str(e)
    except KeyboardInterrupt:
        code, kind, message = _INTERRUPTED, "KeyboardInterrupt", "interrupted"
    # Messages speak to callers of the library.
    message = re.sub(r"\b(overwrite|trim_prompt)=True", _as_option, message)
    if "--json" in arguments:
        _print_json({"error": {"type": kind, "message": message}}, out)
    else:
        prefix = "" if code == _USAGE else "\n" if code == _INTERRUPTED else "error: "
        _print_safe(prefix + message, sys.stderr)
    return code


def _as_option(argument: re.Match[str]) -> str:
    return "--" + argument[1].replace("_", "-")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="llm-tflite",
        description="Turn a Keras language model into one small file, and let it talk.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="command")

    def command(run: Callable[[argparse.Namespace, TextIO], int], text: str) -> _Parser:
        name = run.__name__.lstrip("_")
        added: _Parser = commands.add_parser(name, help=text, description=text, allow_abbrev=False)
        added.add_argument("--json", action="store_true", help="print one JSON document")
        added.set_defaults(run=run)
        return added

    _add_convert_arguments(command(_convert, "Turn a Keras model into one file."))
    _add_generate_arguments(command(_generate, "Continue a prompt."))
    inspect = command(_inspect, "Say what a file holds, without running it.")
    inspect.add_argument("file", help="a .litertlm or .tflite file of any origin")
    inspect.add_argument("--verify", action="store_true", help="compare every byte with its digest")
    command(_plugins, "List the installed plugins, what they provide and what failed.")
    return parser


# --- convert ------------------------------------------------------------------------------------


def _add_convert_arguments(parser: _Parser) -> None:
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--preset", metavar="NAME", help="a KerasHub preset, or a folder with one")
    source.add_argument(
        "--keras", metavar="FILE", type=_path(".keras"), help="a model that Keras saved"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="FILE",
        type=_path(".litertlm", ".tflite"),
        required=True,
        help="where to; .litertlm or .tflite",
    )
    parser.add_argument(
        "--quantizer", metavar="NAME", default="dynamic_range", help="see llm-tflite plugins"
    )
    parser.add_argument(
        "--context-length", metavar="N", type=int, help="tokens of prompt and answer together"
    )
    parser.add_argument(
        "--prefill-lengths", metavar="N,N,...", type=_numbers, help="for example 8,32,128"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar and no summary")


def _convert(options: argparse.Namespace, out: TextIO) -> int:
    from .files import check_target
    from .plugins import load_plugins

    # Refused now rather than after the model is downloaded and loaded.
    check_target(options.output, overwrite=options.overwrite)
    load_plugins().quantizer(options.quantizer)
    model = _load_keras_model(options)
    from .converter import Converter

    began = perf_counter()
    artifact = Converter(
        model,
        quantizer=options.quantizer,
        context_length=options.context_length,
        prefill_lengths=options.prefill_lengths,
    ).convert(options.output, overwrite=options.overwrite, progress=not options.quiet)
    seconds = perf_counter() - began
    if options.json:
        manifest = json.loads(artifact.manifest.to_bytes())
        facts = {"path": options.output, "size_bytes": artifact.size_bytes, "seconds": seconds}
        _print_json(facts | {"manifest": manifest}, out)
    elif not options.quiet:
        each = artifact.size_bytes / artifact.manifest.model.parameters
        size = f"{artifact.size_bytes:,} bytes, {each:.3f} for each parameter"
        print(f"{options.output}: {size}; {seconds:.1f} s", file=out)
    return 0


def _load_keras_model(options: argparse.Namespace) -> Any:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if options.keras is not None:
        from .files import open_regular

        open_regular(options.keras).close()  # its errors are plainer than those of Keras
    try:
        with _silent_descriptor_2():
            import keras
            import keras_hub
    except ImportError as e:
        raise MissingDependencyError(
            f"converting needs {e.name}: pip install 'llm-tflite[convert]'"
        ) from e
    try:
        if options.preset is not None:
            return keras_hub.models.CausalLM.from_preset(options.preset, dtype="float32")
        return keras.models.load_model(options.keras, compile=False, safe_mode=True)
    except Exception as e:  # of any type: networks, archives, configurations, weights
        source = options.preset or options.keras
        raise ConversionError(f"Keras cannot load {source}: {type(e).__name__}: {e}") from e


@contextlib.contextmanager
def _silent_descriptor_2() -> Iterator[None]:
    """Hide what TensorFlow writes while it is imported, before it reads its log level."""
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


# --- generate -----------------------------------------------------------------------------------


def _add_generate_arguments(parser: _Parser) -> None:
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
    add("--allow-special-tokens", action="store_true", help="read control tokens in the prompt")
    add("--threads", metavar="N", type=int, help="default: 4, or as many as there are")


def _generate(options: argparse.Namespace, out: TextIO) -> int:
    from .interpreter import Interpreter

    prompt = _prompt(options)
    with Interpreter(options.file, threads=options.threads) as interpreter:
        in_text = interpreter.manifest.tokenizer is not None
        for chunk in interpreter.stream(
            prompt,
            max_new_tokens=options.max_new_tokens,
            sampling=_sampling(options),
            stop=options.stop,
            logprobs=options.logprobs,
            context_window=options.context_window,
            trim_prompt=options.trim_prompt,
            allow_special_tokens=options.allow_special_tokens,
        ):
            if not options.json:
                out.write(chunk.text if in_text else "".join(f"{t} " for t in chunk.token_ids))
                out.flush()
            if chunk.completion is not None:
                completion = chunk.completion
    if options.json:
        _print_json(_completion_facts(completion), out)
    else:
        out.write("\n")
        out.flush()
        for token in completion.logprobs or ():
            _print_safe(_logprob_line(token), sys.stderr)
        print(_figures(completion), file=sys.stderr)
    return _FAILED if completion.error else 0


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
        return _numbers(text)
    except argparse.ArgumentTypeError as e:
        raise PromptError(str(e)) from e


def _sampling(options: argparse.Namespace) -> Sampling:
    from .sampling import Sampling

    names = [field.name for field in dataclasses.fields(Sampling)]
    given = {name: value for name in names if (value := getattr(options, name)) is not None}
    if given.keys() <= {"repetition_penalty"}:  # the others are about drawing
        given["temperature"] = 0.0
    return Sampling(**given)


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
    return (
        f"{len(completion.token_ids)} tokens, ended by "
        f"{completion.error or completion.finish_reason}; {prompt}; load {timings.load_s:.2f} s; "
        f"prefill {timings.prefill_tokens_per_s:.0f} tokens/s; "
        f"decode {timings.decode_tokens_per_s:.1f} tokens/s"
    )


# --- inspect and plugins ------------------------------------------------------------------------


def _inspect(options: argparse.Namespace, out: TextIO) -> int:
    from .inspection import inspect

    inspection = inspect(options.file, verify=options.verify)
    if options.json:
        _print_json(inspection.to_dict(), out)
    else:
        _print_safe(str(inspection), out)
    return _FAILED if inspection.digests == "mismatch" else 0


def _plugins(options: argparse.Namespace, out: TextIO) -> int:
    from .plugins import plugins

    infos = plugins()
    if options.json:
        _print_json({"plugins": [dataclasses.asdict(info) for info in infos]}, out)
    for info in () if options.json else infos:
        _print_safe(str(info), out)
        for kind, names in info.provides.items():
            _print_safe(f"  {kind}: {', '.join(names)}", out)
        if info.error:
            _print_safe(f"  error: {info.error}", out)
    return 0


# --- arguments and output -----------------------------------------------------------------------


def _path(*suffixes: str) -> Callable[[str], str]:
    def check(text: str) -> str:
        if Path(text).suffix not in suffixes:
            raise argparse.ArgumentTypeError(
                f"expected a path that ends in {' or '.join(suffixes)}; got {text!r}"
            )
        return text

    return check


def _numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in re.split(r"[,\s]+", text.strip())]
    except ValueError as e:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas; got {text[:80]!r}"
        ) from e


def _print_json(values: Any, out: TextIO) -> None:
    print(json.dumps(values, indent=2), file=out)


def _print_safe(text: str, out: TextIO) -> None:
    """Print text that may quote a hostile file, without what would steer the terminal."""
    safe = (c if c.isprintable() or c == "\n" else ascii(c)[1:-1] for c in text)
    print("".join(safe), file=out)
