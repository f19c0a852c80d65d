"""Sends random bytes through a converted tokenizer and back: a process that might be killed."""

import random
import sys
from pathlib import Path

from converted_graph import ConvertedTokenizer


def survive(kind: str, folder: str, prefix: str) -> None:
    graph = ConvertedTokenizer.load(Path(folder))
    known = [byte for byte in range(256) if graph.encode(bytes([byte]))]
    # SmolLM2 has no tokens for 21 of the bytes, none of which is in a text; they leave no trace.
    assert len(known) in (235, 256)
    chance = random.Random(3)
    for turn in range(2000):
        pool = [byte for byte in known if byte > 127] if turn % 2 else known
        text = bytes(chance.choices(pool, k=chance.randint(0, 60)))
        found = graph.decode(graph.encode(text))
        if prefix and text and not text.startswith(b" "):
            text = prefix.encode() + text
        # A "▁" in the text is a space for SentencePiece.
        wanted = text if kind == "hf" else text.replace("▁".encode(), b" ")
        assert found == wanted, text
    print("survived")


if __name__ == "__main__":
    survive(*sys.argv[1:])
