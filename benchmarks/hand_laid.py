"""Compare our decode graphs with those that were laid by hand: ``python -m benchmarks.hand_laid``.

The same weights, quantizer, runtime and calls; only the graphs differ. Before anything is timed,
the hand-laid float32 graph must give the logits of the Keras model, and the quantized graphs must
choose the same tokens as ours. All graphs of a model are open at once and take turns token by
token, so that a busy minute does not fall on one of them alone; they are opened several times.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from llm_tflite.converter import Converter
from llm_tflite.demo.gguf_llama import load_gguf_llama
from llm_tflite.demo.material import smollm2_gguf
from llm_tflite.demo.shapes import randomize
from llm_tflite.quantizers.int8 import Int8
from llm_tflite.quantizers.none import NoQuantization
from llm_tflite.runtime import RuntimeModel
from llm_tflite.signature_names import signature_name
from llm_tflite.tracing.reference import keras_logits

from .arguments import add_file_options
from .hand_laid_gemma3 import lay_gemma3
from .hand_laid_graph import ARRANGEMENTS, Lay, write_hand_laid
from .hand_laid_llama import lay_llama
from .report import machine

CONTEXT, SLOTS = 1024, (512, 1024)
OURS = "traced"
# Largest difference of logits from Keras, as a share of their range.
TOLERANCE = 1e-3
_CHECKED_TOKENS = 24
_OPENINGS = 2  # of every file, in each place of the order
_FIRST_TIMED = 100  # positions: the middle of a text that fits the smaller caches


def gemma3_270m() -> Any:
    """The published shape of Gemma 3 270M with random weights."""
    import keras_hub

    backbone = keras_hub.models.Gemma3Backbone(
        vocabulary_size=262_144,
        image_size=None,
        num_layers=18,
        num_query_heads=4,
        num_key_value_heads=1,
        hidden_dim=640,
        intermediate_dim=2048,
        head_dim=256,
        use_post_ffw_norm=True,
        use_post_attention_norm=True,
        use_sliding_window_attention=True,
        sliding_window_size=512,
    )
    return randomize(keras_hub.models.Gemma3CausalLM(backbone=backbone, preprocessor=None), 0)


MODELS: dict[str, tuple[Callable[[], Any], Lay]] = {
    "SmolLM2 135M": (lambda: load_gguf_llama(smollm2_gguf()), lay_llama),
    "Gemma 3 270M": (gemma3_270m, lay_gemma3),
}


class Decoder:
    """One decode graph of a file, called as ``Interpreter`` does: caches in place, in and out."""

    def __init__(self, path: Path, slots: int, threads: int) -> None:
        self._model = RuntimeModel(str(path), threads=threads)
        self._signature = signature_name(None, None if slots == CONTEXT else slots)
        known = self._model.signatures[self._signature]
        self._inputs = {
            name: self._model.input_buffer(self._signature, name) for name in known.inputs
        }
        for name, spec in known.inputs.items():
            self._inputs[name].write(np.zeros(spec.shape, spec.dtype))
        self._logits = self._model.output_buffer(self._signature, "logits")
        self._outputs = {name: self._inputs.get(name, self._logits) for name in known.outputs}
        self._vocabulary = known.outputs["logits"].shape[-1]

    def step(self, token: int, position: int) -> float:
        """Read one token; returns the seconds that the graph took."""
        self._inputs["tokens"].write(np.array([token], np.int32))
        self._inputs["input_pos"].write(np.array([position], np.int32))
        began = perf_counter()
        self._model.run(self._signature, self._inputs, self._outputs)
        return perf_counter() - began

    def close(self) -> None:
        """Give the runtime's memory back."""
        self._model.close()

    def logits(self) -> np.ndarray:
        """The scores after the last step."""
        return np.asarray(self._logits.read(self._vocabulary, np.float32)).copy()


def main(arguments: Sequence[str] | None = None) -> None:
    options = _parse(arguments)
    options.files.mkdir(parents=True, exist_ok=True)
    options.output.mkdir(parents=True, exist_ok=True)
    cases = {}
    for name, (load, lay) in MODELS.items():
        if options.only in name:
            folder = options.files / f"hand-laid-{name.replace(' ', '-').lower()}"
            if not options.reuse_files:
                make_files(folder, load(), lay)
            cases[name] = {
                str(slots): compare(folder, slots, options.threads, options.rounds)
                for slots in SLOTS
            }
    report = {
        "machine": machine(),
        "load_average": os.getloadavg(),
        "threads": options.threads,
        "rounds": options.rounds,
        "cases": cases,
    }
    (options.output / "hand_laid.json").write_text(json.dumps(report, indent=2) + "\n")
    (options.output / "hand_laid.md").write_text(as_markdown(report))
    print(as_markdown(report))


def make_files(folder: Path, model: Any, lay: Lay) -> None:
    """Write our file and every hand-laid one, whose graphs are checked in float32 before."""
    folder.mkdir(parents=True, exist_ok=True)
    for arrangement in ARRANGEMENTS:
        path = folder / "float32.tflite"
        write_hand_laid(
            path, model, lay, slots=SLOTS, arrangement=arrangement, strategy=NoQuantization()
        )
        for slots in SLOTS:
            difference = difference_from_keras(path, slots, model)
            if difference > TOLERANCE:
                raise SystemExit(
                    f"hand-laid graphs ({arrangement.name}, {slots} slots) differ from Keras by "
                    f"{difference:.1e} of the range of its logits; expected {TOLERANCE} at most"
                )
        path.unlink()
        write_hand_laid(
            folder / f"{arrangement.name}.tflite",
            model,
            lay,
            slots=SLOTS,
            arrangement=arrangement,
            strategy=Int8("dynamic_range", "dynamic"),
        )
    Converter(model, context_length=CONTEXT).convert(folder / f"{OURS}.tflite", overwrite=True)


def difference_from_keras(path: Path, slots: int, model: Any, threads: int = 2) -> float:
    """The largest difference of a float32 graph's logits from Keras', as a share of their range."""
    size = model.backbone.vocabulary_size
    tokens = np.random.default_rng(1).integers(size, size=_CHECKED_TOKENS).tolist()
    expected = np.asarray(keras_logits(model, tokens))
    decoder = Decoder(path, slots, threads)
    found = []
    for position, token in enumerate(tokens):
        decoder.step(token, position)
        found.append(decoder.logits())
    return float(np.abs(np.stack(found) - expected).max() / np.ptp(expected))


def compare(folder: Path, slots: int, threads: int, rounds: int) -> dict[str, Any]:
    """Time the decode graphs of all files in turn.

    Files are opened anew for each share of the rounds, another one first: where the runtime puts
    a model's memory moves the speed of the very same file by 3 %.

    Returns:
        By file, tokens/s (of the median step) and ``ours_over_it``, the median over the rounds of
        how many times as fast ours was.
    """
    names = [OURS, *(arrangement.name for arrangement in ARRANGEMENTS)]
    times: dict[str, list[float]] = {name: [] for name in names}
    openings = _OPENINGS * len(names)
    for opening in range(openings):
        order = [*names[opening % len(names) :], *names[: opening % len(names)]]
        decoders = {name: Decoder(folder / f"{name}.tflite", slots, threads) for name in order}
        try:
            _check_texts({name: _greedy(decoder) for name, decoder in decoders.items()})
            for turn in range(-(-rounds // openings)):
                shift = turn % len(order)
                for name in order[shift:] + order[:shift]:
                    position = _FIRST_TIMED + turn % 400
                    times[name].append(decoders[name].step(1 + turn, position))
        finally:
            for decoder in decoders.values():
                decoder.close()
    return {
        name: {
            "tokens_per_s": 1 / statistics.median(taken),
            "ours_over_it": statistics.median(
                other / own for own, other in zip(times[OURS], taken, strict=True)
            ),
        }
        for name, taken in times.items()
    }


def _check_texts(texts: Mapping[str, Sequence[int]]) -> None:
    for name, text in texts.items():
        if text != texts[OURS]:
            raise SystemExit(f"{name}: expected the tokens that ours chooses, found {text}")


def as_markdown(report: Mapping[str, Any]) -> str:
    """A report as a table."""
    lines = [
        f"{report['machine']['processor']}, {report['threads']} threads; medians of "
        f"{report['rounds']} tokens, in turn. In brackets: ours divided by it.",
        "",
        f"| model | slots | {OURS} tokens/s | "
        + " | ".join(f"hand-laid, {arrangement.name}" for arrangement in ARRANGEMENTS)
        + " |",
        "|---|---:|" + "---:|" * (1 + len(ARRANGEMENTS)),
    ]
    for name, sizes in report["cases"].items():
        for slots, graphs in sizes.items():
            cells = [f"{graphs[OURS]['tokens_per_s']:.1f}"]
            for arrangement in ARRANGEMENTS:
                graph = graphs[arrangement.name]
                cells.append(f"{graph['tokens_per_s']:.1f} ({graph['ours_over_it']:.2f})")
            lines.append(f"| {name} | {slots} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _greedy(decoder: Decoder) -> list[int]:
    """The most probable token after each of a text, which ours and others must agree on."""
    token, chosen = 1, []
    for position in range(_CHECKED_TOKENS):
        decoder.step(token, position)
        token = int(decoder.logits().argmax())
        chosen.append(token)
    return chosen


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hand_laid", description=__doc__)
    parser.add_argument("--only", default="", help="models whose name contains this text")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=300, help="tokens per graph")
    add_file_options(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
