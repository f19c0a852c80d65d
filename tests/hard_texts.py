"""Texts that are hard to tokenize: scripts, emoji, white space, digits, names of control tokens."""

from __future__ import annotations

import random

HARD_TEXTS = [
    "",
    " ",
    "  two  spaces  ",
    "\n\n",
    "\r\n\t \n",
    "don't can't we're they've I'll he'd it's 'S 'T",
    "it\u2019s curly — and … dashes",
    "hello world\n\n    indented\n\tand tabs",
    "line one\r\nline two\r\n\r\n  line three \r\n",
    "1234567890 3.14159 1,000,000 ½ ② ٣٤٥ ৪২ Ⅷ 0x1F",
    "9" * 60 + " 12345678901234567890.000000000000001e-300",
    "<|endoftext|",
    "<endoftext> <s",
    "😀😀 👩‍👩‍👧‍👦 🇺🇸🇩🇪 I ❤️ you 👍🏽 🏴󠁧󠁢󠁳󠁣󠁴󠁿",
    "café cafe\u0301 naïve straße ﬁne İstanbul a\u0316\u0301\u0327 Z\u0351\u036b\u0343",
    "今天天气很好。日本語テスト 한국어 문장 𠀀𠀁",
    "他说:“你好,世界!”「本当に?」ｆｕｌｌ　ｗｉｄｔｈ",
    "مرحبا بالعالم עברית हिन्दी में लिखा हुआ ไทยไม่มีช่องว่าง Ελληνικά Русский",
    "a\u00a0b \u3000 \u2009 \u200b \u200d \u2060 \ufeff \u2028 \x85 \x0b \x1c",
    "\ufeff",
    "\ufefftext behind a mark",
    "\u202eright to left\u202c \u00ad soft",
    "Ġhello Ċ ĉ ▁ ▁▁x <0x0A>",
    'def f(x):\n    return {"a": [x**2]}  # http://example.com/?q=1&b=2',
    "for (int i = 0; i < n; ++i) {\n\t\tsum += a[i] << 2; /* ok */\n}",
    "https://user:pw@sub.example.co.uk:8080/a%20b/c_d?e=f&g[]=h#i mailto:a.b+c@d.org",
    "a" * 300,
    " " * 100,
    "\t" * 40 + "x",
    "\n" * 50,
    "!?" * 80,
    "\x00 a\x00b \x01\x7f",
    "antidisestablishmentarianism supercalifragilisticexpialidocious",
    "Donaudampfschifffahrtselektrizitätenhauptbetriebswerkbauunterbeamtengesellschaft" * 3,
    "\U0010ffff \ue000 \ufffd \ufffe",
]

# What a user may type, and what some families read as control tokens.
CONTROL_TEXTS = [
    "<|endoftext|>",
    "a</s>b <s> c",
    "<bos>hello<eos> <pad>",
    "<start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\n",
    "<|im_start|>user\nhi<|im_end|>\n<think>\n\n</think>",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nhi<|eot_id|><|end_of_text|>",
    "<|end|> <turn|> [multimodal] <img>",
    "<|endoftext|><|endoftext|> </s></s>",
]


def corpus() -> list[str]:
    """Return the hard texts, and scrambled ones of several scripts."""
    chance = random.Random(7)
    ranges = [
        (0x20, 0x7E),
        (0x20, 0x7E),
        (0xA0, 0x24F),
        (0x400, 0x52F),
        (0x4E00, 0x9FFF),
        (0x1F300, 0x1F6FF),
    ]
    scrambled = [
        "".join(chr(chance.randint(*chance.choice(ranges))) for _ in range(chance.randint(1, 40)))
        for _ in range(150)
    ]
    return HARD_TEXTS + scrambled
