"""The regular expressions with which published byte-pair tokenizers cut text into words.

As the ``tokenizer.json`` files of GPT-2, Llama 3 and Qwen 2 have them.
"""

from __future__ import annotations

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_YOUNGER = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LLAMA3 = _YOUNGER.format(numbers=r"\p{N}{1,3}")
QWEN2 = _YOUNGER.format(numbers=r"\p{N}")
