"""Text as it streams: bytes of tokens become whole characters, and stop strings end the answer."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterable


class Utf8Assembler:
    """Turns the bytes of tokens into text that is whole at every step.

    A character may be spread over several tokens; its bytes wait here until the last one arrives.
    The pieces joined are exactly ``all_bytes.decode("utf-8", "replace")``.
    """

    def __init__(self) -> None:
        """Begin between two characters."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def pending(self) -> bool:
        """Whether the bytes so far end in the middle of a character."""
        return bool(self._decoder.getstate()[0])

    def push(self, data: bytes) -> str:
        """Return the characters that ``data`` completes."""
        return self._decoder.decode(data)

    def finish(self) -> str:
        """Return U+FFFD for a character that will never be completed, else nothing."""
        return self._decoder.decode(b"", final=True)


class StopStrings:
    """Holds text back while it may still turn out to be the beginning of a stop string.

    The string that is complete first wins, and of those that end together the longest; so the
    answer does not depend on how the text was cut into pieces. The search is the automaton of Aho
    and Corasick (1975): each character costs the same, for one stop string or for ten thousand.

    Attributes:
        found: The stop string that ended the text, or None.
    """

    def __init__(self, stops: Iterable[str]) -> None:
        """Look for any of ``stops``, none of them empty."""
        self.found: str | None = None
        self._held = ""
        self._node = 0
        self._next: list[dict[str, int]] = [{}]
        self._depth = [0]
        self._stop: list[str | None] = [None]
        for stop in stops:
            self._stop[self._insert(stop)] = stop
        self._fallback = [0] * len(self._next)
        self._link()

    def push(self, text: str) -> str:
        """Return the text that is certain not to be a stop string; "" once one is found."""
        if self.found is not None:
            return ""
        for index, character in enumerate(text):
            node = self._node
            while node and character not in self._next[node]:
                node = self._fallback[node]
            self._node = node = self._next[node].get(character, 0)
            stop = self._stop[node]
            if stop is not None:
                self.found = stop
                seen = self._held + text[: index + 1]
                self._held = ""
                return seen[: -len(stop)]
        # The depth of the node is how many of the last characters may begin a stop string.
        seen = self._held + text
        released = len(seen) - self._depth[self._node]
        self._held = seen[released:]
        return seen[:released]

    def finish(self) -> str:
        """Return what was held back, now that no more text will come."""
        held, self._held = self._held, ""
        return held

    def _insert(self, stop: str) -> int:
        node = 0
        for character in stop:
            if character not in self._next[node]:
                self._next[node][character] = len(self._next)
                self._depth.append(self._depth[node] + 1)
                self._next.append({})
                self._stop.append(None)
            node = self._next[node][character]
        return node

    def _link(self) -> None:
        """Point every node at the longest proper suffix of its text that is in the tree too."""
        queue = deque(self._next[0].values())
        while queue:
            node = queue.popleft()
            for character, child in self._next[node].items():
                fallback = self._fallback[node]
                while fallback and character not in self._next[fallback]:
                    fallback = self._fallback[fallback]
                self._fallback[child] = self._next[fallback].get(character, 0)
                # A shorter stop string that ends here ends the text as well.
                if self._stop[child] is None:
                    self._stop[child] = self._stop[self._fallback[child]]
                queue.append(child)
