"""The cases that the library and the Android app must answer alike; stated here by hand.

``python tests/shared_vectors.py`` writes them to ``android_app/vectors``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent.parent / "android_app/vectors"
Case = dict[str, Any]

BOY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"  # one family, joined by ZWJ


def found(
    name: str, words: list[str], before: str, matched: str, after: str, entry: str = ""
) -> Case:
    """A text in which the first match is ``matched``."""
    match = {"entry": entry or words[0], "before": before, "matched": matched}
    return {"name": name, "words": words, "text": before + matched + after, "match": match}


def clean(name: str, words: list[str], text: str) -> Case:
    """A text without a match."""
    return {"name": name, "words": words, "text": text, "match": None}


PROFANITY = [
    found("the word alone", ["darn"], "", "darn", ""),
    found("in a sentence", ["darn"], "oh ", "darn", " it"),
    found("in quotes", ["darn"], "\u201c", "darn", "\u201d"),
    found("between brackets and a newline", ["darn"], "(", "darn", ")\n"),
    found("underscore is punctuation", ["darn"], "_", "darn", "_"),
    found("hyphen ends a word", ["darn"], "", "darn", "-it"),
    found("apostrophe ends a word", ["darn"], "", "darn", "'s"),
    clean("inside a longer word", ["darn"], "darning and undarn"),
    clean("a digit makes another word", ["darn"], "darn2 2darn"),
    clean("empty text", ["darn"], ""),
    clean("only spaces", ["darn"], " \t\n\u3000"),
    clean("only punctuation and signs", ["darn"], "!!! @$ ... ?"),
    clean("part of the word", ["darn"], "dar n da rn"),
    found("upper case", ["darn"], "", "DARN", ""),
    found("upper case in the list", ["DARN"], "", "darn", ""),
    found("accents in the text", ["darn"], "", "d\u00e4r\u00f1", ""),
    found("accents in the list", ["d\u00e4r\u00f1"], "", "darn", ""),
    found("combining marks, several on one letter", ["darn"], "", "da\u0301\u0323\u0302rn", ""),
    found("an enclosing mark", ["darn"], "", "da\u20ddrn", ""),
    found("a mark after the last letter", ["darn"], "", "darn", "\u0301 it"),
    found("a mark before the first letter", ["darn"], "\u0301", "darn", ""),
    found("full width", ["darn"], "", "\uff44\uff41\uff52\uff4e", ""),
    found("mathematical bold", ["darn"], "", "\U0001d41d\U0001d41a\U0001d42b\U0001d427", ""),
    found("circled letters", ["darn"], "", "\u24d3\u24d0\u24e1\u24dd", ""),
    found("superscript letters", ["darn"], "", "\u1d48\u1d43\u02b3\u207f", ""),
    found("zero width joiner inside", ["darn"], "", "da\u200drn", ""),
    found("zero width space inside", ["darn"], "", "da\u200brn", ""),
    found("soft hyphen inside", ["darn"], "", "da\u00adrn", ""),
    found("byte order mark before", ["darn"], "\ufeff", "darn", ""),
    found("right-to-left override inside", ["darn"], "", "da\u202ern", ""),
    found("variation selector inside", ["darn"], "", "da\ufe0frn", ""),
    found("no-break space around", ["darn"], "oh\u00a0", "darn", "\u00a0it"),
    found("between emoji", ["darn"], BOY, "darn", "\U0001f600"),
    clean("emoji between letters", ["darn"], "da\U0001f600rn"),
    clean("spaces between letters", ["darn"], "d a r n"),
    found("ligature", ["fife"], "", "\ufb01fe", ""),
    found("ligature at the end", ["off"], "", "o\ufb00", ""),
    found("long s", ["sin"], "", "\u017fin", ""),
    found("sharp s in the text", ["strasse"], "", "Stra\u00dfe", ""),
    found("sharp s in the list", ["stra\u00dfe"], "", "STRASSE", ""),
    found("capital sharp s", ["strasse"], "", "STRA\u1e9eE", ""),
    found("Turkish dotted capital i", ["idiot"], "", "\u0130D\u0130OT", ""),
    found("Turkish dotless i", ["idiot"], "", "\u0131d\u0131ot", ""),
    found("capital I is i whatever the language", ["idiot"], "", "IDIOT", ""),
    found(
        "Greek final sigma in the list",
        ["\u03bb\u03cc\u03b3\u03bf\u03c2"],
        "",
        "\u039b\u039f\u0393\u039f\u03a3",
        "",
    ),
    found(
        "Greek final sigma in the text",
        ["\u03bb\u03bf\u03b3\u03bf\u03c3"],
        "",
        "\u03bb\u03cc\u03b3\u03bf\u03c2",
        ".",
    ),
    found("Cyrillic, capital and breve", ["\u0439\u043e\u0434"], "", "\u0419\u041e\u0414", ""),
    clean("Cyrillic letters that look like Latin ones are others", ["darn"], "d\u0430rn"),
    found(
        "Hebrew with points",
        ["\u05e9\u05dc\u05d5\u05dd"],
        "",
        "\u05e9\u05c1\u05b8\u05dc\u05d5\u05b9\u05dd",
        "",
    ),
    found("Arabic with vowels", ["\u0643\u0644\u0628"], "", "\u0643\u064e\u0644\u0652\u0628", ""),
    found(
        "Hindi, a whole word",
        ["\u0939\u093f\u0928\u094d\u0926\u0940"],
        "\u092f\u0939 ",
        "\u0939\u093f\u0928\u094d\u0926\u0940",
        " \u0939\u0948",
    ),
    clean(
        "Hindi vowels make another word", ["\u091a\u0942\u0924"], "\u091a\u0924 \u091a\u0940\u0924"
    ),
    clean("Hindi, inside a longer word", ["\u0939\u093f"], "\u0939\u093f\u0928\u094d\u0926\u0940"),
    # look-alikes: 0 o, 1 i, 3 e, 4 a, 5 s, 7 t, @ a, $ s, ! i
    found("digits for letters", ["sheet"], "", "5h337", ""),
    found("signs for letters", ["sassy"], "", "$@$$y", ""),
    found("all look-alikes", ["xoieastasi"], "", "x013457@$!", ""),
    found("exclamation mark for a letter", ["skip"], "", "sk!p", ""),
    found("exclamation mark first", ["idiot"], "", "!diot", ""),
    found("exclamation mark after the word", ["skip"], "", "sk1p", "!"),
    found("exclamation marks after the word, three", ["skip"], "", "5kip", "!!!"),
    found("exclamation mark inside and after", ["alibi"], "", "al!b!", ""),
    found("a sign after a listed word", ["darn"], "", "darn", "$"),
    found("a sign before a listed word", ["darn"], "@", "darn", ""),
    found("full width digit", ["skip"], "", "sk\uff11p", ""),
    found("look-alike with an accent on it", ["skip"], "", "sk1\u0301p", ""),
    found("a list entry with a digit", ["sk1p"], "", "sk1p", ""),
    clean("a list entry with a digit is not the word without", ["sk1p"], "skip"),
    clean("a number is no word", ["ass", "so"], "455 50"),
    clean("a number with signs is no word", ["ass", "is"], "4$$ 15 $5"),
    clean("a number beside a hyphen is no word", ["ass"], "455-hole x-455"),
    found("one letter is enough", ["ass"], "", "a55", ""),
    clean("digit two has no letter", ["to"], "2o"),
    found("a listed number", ["1488"], "in ", "1488", " AD"),
    clean("a listed number in a longer one", ["1488"], "11488 14880"),
    found("a listed number in other digits' clothes", ["1488"], "", "\uff11\uff14\uff18\uff18", ""),
    # phrases
    found("a phrase", ["son of a gun"], "you ", "son of a gun", "!"),
    found("a phrase over punctuation", ["son of a gun"], "", "Son, of...a -- GUN", "."),
    found("a phrase over lines", ["son of a gun"], "", "son\nof\r\n\ta\u3000gun", ""),
    found("a phrase over an emoji", ["son of a gun"], "", "son of \U0001f600 a gun", ""),
    clean("a phrase with a word between", ["son of a gun"], "son of a big gun"),
    clean("a phrase in another order", ["son of a gun"], "gun a of son"),
    clean("a phrase as one word", ["son of a gun"], "sonofagun"),
    clean("a word longer at the end of a phrase", ["son of a gun"], "son of a gunner"),
    clean("a word longer at the beginning of a phrase", ["son of a gun"], "person of a gun"),
    found("a phrase that begins again", ["a a b"], "a ", "a a b", ""),
    found("a phrase with look-alikes", ["piece of cake"], "", "p13ce of c@ke", ""),
    found("a phrase with look-alikes and a number", ["catch 22"], "", "c4tch 22", ""),
    found("a phrase with a number", ["catch 22"], "a ", "Catch-22", "."),
    found("punctuation in the list", ["son-of-a-gun!"], "", "son of a gun", ""),
    found("a phrase after a word of one of its words", ["of gun"], "of ", "of gun", ""),
    # several
    found("the one that ends first", ["b c d", "c"], "a b ", "c", " d", "c"),
    found(
        "of two that end together, the one that begins first",
        ["c", "b c"],
        "a ",
        "b c",
        " d",
        "b c",
    ),
    found("the first of two", ["one", "two"], "", "two", " one", "two"),
    found("two entries that fold alike", ["caf\u00e9", "cafe"], "", "CAFE", "", "caf\u00e9"),
    found("a word and the word it begins", ["dar", "darn"], "", "darn", "", "darn"),
    # scripts without spaces
    found("Chinese inside a sentence", ["\u574f\u86cb"], "\u4f60\u662f", "\u574f\u86cb", "\u5417"),
    clean("Chinese with a space between", ["\u574f\u86cb"], "\u574f \u86cb"),
    clean("Chinese with a comma between", ["\u574f\u86cb"], "\u574f\uff0c\u86cb"),
    found(
        "Chinese with a hidden character between", ["\u574f\u86cb"], "", "\u574f\u200b\u86cb", ""
    ),
    found("Chinese beside Latin", ["\u574f\u86cb"], "so ", "\u574f\u86cb", "x"),
    found("a Latin word between Chinese characters", ["darn"], "\u4ed6", "darn", "\u4e86"),
    found("Chinese and Latin in one entry", ["\u50bbB"], "\u4f60", "\u50bb\uff42", "\uff01"),
    found("a character outside the first plane", ["\U00020b9f"], "\u4e00", "\U00020b9f", "\u4e00"),
    found("a compatibility ideograph", ["\u8c48"], "", "\uf900", ""),
    found("a radical is its character", ["\u4e00\u4eba"], "", "\u2f00\u2f08", ""),
    found("an entry of spaces and Chinese", [" \u574f\u86cb "], "", "\u574f\u86cb", ""),
    found(
        "Chinese, the shorter entry ends first",
        ["\u574f\u86cb\u86cb", "\u574f\u86cb"],
        "",
        "\u574f\u86cb",
        "\u86cb",
        "\u574f\u86cb",
    ),
    found(
        "Chinese, the longer of two that end together",
        ["\u86cb", "\u574f\u86cb"],
        "\u5927",
        "\u574f\u86cb",
        "",
        "\u574f\u86cb",
    ),
    found("Japanese, half width", ["\u30d0\u30ab"], "", "\uff8a\uff9e\uff76", "\u3060"),
    clean("Japanese voicing makes another word", ["\u3070\u304b"], "\u306f\u304b"),
    clean("Japanese voicing at the end", ["\u306f"], "\u3070"),
    found("Japanese, composed and not", ["\u3070\u304b"], "", "\u306f\u3099\u304b", ""),
    found("Korean inside a word", ["\ubc14\ubcf4"], "\ub108 ", "\ubc14\ubcf4", "\uc57c"),
    found("Korean in single letters", ["\ubc14\ubcf4"], "", "\u1107\u1161\u1107\u1169", ""),
    clean("Korean, a syllable that goes on", ["\uc2dc\ubc14"], "\uc2dc\ubc1c"),
    clean("Thai vowels make another word", ["\u0e2b\u0e35"], "\u0e2b\u0e32 \u0e2b\u0e34"),
    found(
        "Thai inside a sentence",
        ["\u0e04\u0e27\u0e32\u0e22"],
        "\u0e44\u0e2d\u0e49",
        "\u0e04\u0e27\u0e32\u0e22",
        "\u0e40\u0e2d\u0e4a\u0e22",
    ),
    clean(
        "Thai, a mark that goes on",
        ["\u0e01\u0e34\u0e19\u0e02"],
        "\u0e01\u0e34\u0e19\u0e02\u0e35\u0e49",
    ),
    # long
    found("at the end of a long text", ["darn"], "lorem ipsum " * 300, "darn", ""),
    clean("a long run of letters", ["darn"], "darn" * 1000),
    clean("a long run of a phrase's words", ["a b"], "a " * 1500),
    clean("a long run of marks", ["darn"], "d" + "\u0301" * 500 + "a"),
    found("a word with many marks", ["darn"], "", "d" + "\u0301" * 200 + "arn", ""),
]


def stream(
    name: str,
    words: list[str],
    chunks: list[str],
    text: str,
    entry: str | None = None,
    steps: list[tuple[int, str, str]] | None = None,
) -> Case:
    """Chunks through a gate; a step says what is out after so many chunks, at least and at most."""
    released = [
        {"after_chunks": count, "at_least": least, "at_most": most}
        for count, least, most in steps or []
    ]
    return {
        "name": name,
        "words": words,
        "chunks": chunks,
        "text": text,
        "entry": entry,
        "released": released,
    }


LIST = ["darn", "son of a gun", "\u574f\u86cb", "\u50bbB"]
STREAM_GATE = [
    stream("nothing", LIST, [], ""),
    stream("empty chunks", LIST, ["", "", ""], ""),
    stream(
        "clean", LIST, ["Hello", " wor", "ld."], "Hello world.", steps=[(2, "Hello ", "Hello wor")]
    ),
    stream("a word in one chunk", LIST, ["oh darn it"], "oh ", "darn"),
    stream(
        "a word at the end waits for it",
        LIST,
        ["oh ", "darn"],
        "oh ",
        "darn",
        steps=[(1, "oh ", "oh "), (2, "oh ", "oh ")],
    ),
    stream(
        "a word that grows into another",
        LIST,
        ["oh ", "d", "ar", "n", "ing", " socks"],
        "oh darning socks",
        steps=[(2, "oh ", "oh "), (4, "oh ", "oh "), (6, "oh darning ", "oh darning socks")],
    ),
    stream(
        "a word that grows into a listed one",
        LIST,
        ["oh d", "a", "r", "n", "."],
        "oh ",
        "darn",
        steps=[(4, "oh ", "oh ")],
    ),
    stream(
        "a word that turns out to be another is let out at once",
        LIST,
        ["dar", "e ", "x"],
        "dare x",
        steps=[(1, "", ""), (2, "dare ", "dare ")],
    ),
    stream("the end of another word is no word", LIST, ["un", "darn", " x"], "undarn x"),
    stream("what follows does not come out", LIST, ["a darn", " b", " c", " d"], "a ", "darn"),
    stream(
        "nothing comes after a match",
        LIST,
        ["darn ", "x", "y"],
        "",
        "darn",
        steps=[(1, "", ""), (3, "", "")],
    ),
    stream("a mark that comes late", LIST, ["dar", "n", "\u0301", " x"], "", "darn"),
    stream(
        "a hidden character inside",
        LIST,
        ["da", "\u200d", "rn", "!"],
        "",
        "darn",
        steps=[(3, "", "")],
    ),
    stream("only hidden characters", LIST, ["\u200b", "\u0301"], "\u200b\u0301"),
    stream("look-alikes", LIST, ["so d", "4", "rn", " "], "so ", "darn", steps=[(3, "so ", "so ")]),
    stream(
        "a look-alike sign first",
        ["ant"],
        ["an ", "@", "n", "7", "!"],
        "an ",
        "ant",
        steps=[(2, "an ", "an ")],
    ),
    stream(
        "a number may become a word",
        ["ass"],
        ["4", "5", "5", " x"],
        "455 x",
        steps=[(3, "", ""), (4, "455 ", "455 x")],
    ),
    stream(
        "a phrase",
        LIST,
        ["my son", " of", " a", " gun", "."],
        "my ",
        "son of a gun",
        steps=[(1, "my ", "my "), (3, "my ", "my "), (4, "my ", "my ")],
    ),
    stream(
        "a phrase that goes on otherwise",
        LIST,
        ["my son", " of", " a", " friend", "."],
        "my son of a friend.",
        steps=[(3, "my ", "my "), (5, "my ", "my son of a friend.")],
    ),
    stream(
        "a phrase that is not finished",
        LIST,
        ["my son", " of", " a"],
        "my son of a",
        steps=[(3, "my ", "my ")],
    ),
    stream(
        "a phrase over punctuation",
        LIST,
        ["son,", " of\n", "... a", "\u3000", "GUN"],
        "",
        "son of a gun",
        steps=[(4, "", "")],
    ),
    stream(
        "a phrase that begins again",
        LIST,
        ["son of son", " of a", " gun "],
        "son of ",
        "son of a gun",
        steps=[(2, "", "son of ")],
    ),
    stream("a word inside a phrase that began", LIST, ["son of ", "darn ", "x"], "son of ", "darn"),
    stream(
        "Chinese, character by character",
        LIST,
        ["\u4f60", "\u662f", "\u574f", "\u86cb", "\u3002"],
        "\u4f60\u662f",
        "\u574f\u86cb",
        steps=[
            (2, "\u4f60", "\u4f60\u662f"),
            (3, "\u4f60\u662f", "\u4f60\u662f"),
            (4, "\u4f60\u662f", "\u4f60\u662f"),
        ],
    ),
    stream(
        "Chinese that goes on otherwise",
        LIST,
        ["\u5f88\u574f", "\u7684", "\u4eba"],
        "\u5f88\u574f\u7684\u4eba",
        steps=[(1, "\u5f88", "\u5f88"), (3, "\u5f88\u574f\u7684", "\u5f88\u574f\u7684\u4eba")],
    ),
    stream("Chinese at the end", LIST, ["\u4f60\u574f\u86cb"], "\u4f60", "\u574f\u86cb"),
    stream(
        "Chinese and Latin", LIST, ["\u50bb", "b", "\u5417"], "", "\u50bbB", steps=[(2, "", "")]
    ),
    stream(
        "Korean, a syllable that goes on",
        ["\uc2dc\ubc14"],
        ["\uc2dc", "\u1107\u1161", "\u11af", "."],
        "\uc2dc\u1107\u1161\u11af.",
        steps=[(2, "", "")],
    ),
    stream(
        "emoji", LIST, ["\U0001f600", BOY, " d", "arn\U0001f600"], "\U0001f600" + BOY + " ", "darn"
    ),
    stream("two words, the first ends it", ["one", "two"], ["a tw", "o one", " b"], "a ", "two"),
    stream("the one that ends first, in one chunk", ["b c d", "c"], ["a b c d e"], "a b ", "c"),
    stream(
        "the one that ends first, in several",
        ["b c d", "c"],
        ["a b", " c", " d", " e"],
        "a b ",
        "c",
    ),
    stream(
        "a long text",
        LIST,
        ["lorem ipsum dolor "] * 100 + ["darn", " it"],
        "lorem ipsum dolor " * 100,
        "darn",
        steps=[(100, "lorem ipsum dolor " * 99, "lorem ipsum dolor " * 100)],
    ),
    stream(
        "a long run of letters", LIST, ["darn"] * 500, "darn" * 500, steps=[(500, "", "darn" * 500)]
    ),
]


def words(name: str, text: str, count: int, kept: str, left_out: int) -> Case:
    return {
        "name": name,
        "unit": "words",
        "text": text,
        "window": count,
        "kept": kept,
        "left_out": left_out,
    }


def tokens(
    name: str, ids: list[int], start: int | None, count: int, kept: list[int], left_out: int
) -> Case:
    return {
        "name": name,
        "unit": "tokens",
        "ids": ids,
        "start_token": start,
        "window": count,
        "kept": kept,
        "left_out": left_out,
    }


CONTEXT_WINDOW = [
    words("empty", "", 3, "", 0),
    words("only spaces", " \n\t ", 1, " \n\t ", 0),
    words("fewer words", "one two", 3, "one two", 0),
    words("as many words", "one two three", 3, "one two three", 0),
    words("as many words, spaces around", "  one two three\n", 3, "  one two three\n", 0),
    words("one more", "one two three four", 3, "two three four", 1),
    words("one word", "one two three", 1, "three", 2),
    words("what follows the last word stays", "one two  ", 1, "two  ", 1),
    words("separators stay", "a \n\n b\t\tc\u00a0 d", 3, "b\t\tc\u00a0 d", 1),
    words(
        "punctuation is part of words",
        "Well, I -- that is -- we (all) know.",
        4,
        "-- we (all) know.",
        5,
    ),
    words("spaces before", "   one two", 1, "two", 1),
    words(
        "no-break and ideographic spaces",
        "one\u00a0two\u3000three\u2003four",
        2,
        "three\u2003four",
        2,
    ),
    words(
        "line and paragraph separators",
        "one\u2028two\u2029three\u0085four",
        3,
        "two\u2029three\u0085four",
        1,
    ),
    words("zero width space is no space", "one\u200btwo three", 1, "three", 1),
    words("information separators are spaces", "one\u001ctwo\u001fthree", 1, "three", 2),
    words(
        "Chinese without spaces is one word",
        "\u4eca\u5929\u5929\u6c14 \u5f88\u597d\u3002\u6211\u4eec\u8d70",
        1,
        "\u5f88\u597d\u3002\u6211\u4eec\u8d70",
        1,
    ),
    words("emoji", "a \U0001f600 " + BOY + " b", 2, BOY + " b", 2),
    words("combining marks", "cafe\u0301 au lait", 2, "au lait", 1),
    words("right to left", "\u05d0\u05d1 \u05d2\u05d3 \u05d4", 2, "\u05d2\u05d3 \u05d4", 1),
    words("long", "word " * 2000, 20, "word " * 20, 1980),
    words("one long word", "x" * 5000, 5, "x" * 5000, 0),
    tokens("fewer tokens", [5, 6, 7], None, 4, [5, 6, 7], 0),
    tokens("as many tokens", [5, 6, 7], None, 3, [5, 6, 7], 0),
    tokens("one more token", [5, 6, 7, 8], None, 3, [6, 7, 8], 1),
    tokens("one token", [5, 6, 7, 8], None, 1, [8], 3),
    tokens("the start token stays", [1, 5, 6, 7, 8], 1, 3, [1, 7, 8], 2),
    tokens("the start token stays, one more", [1, 5, 6], 1, 2, [1, 6], 1),
    tokens("a window of one holds a token of the text", [1, 5, 6], 1, 1, [6], 2),
    tokens("the start token alone", [1], 1, 1, [1], 0),
    tokens("a text that does not begin with the start token", [5, 1, 6, 7], 1, 2, [6, 7], 2),
]


def utf8(name: str, chunks: list[str], text: str, steps: list[str] | None = None) -> Case:
    """Bytes in hexadecimal; ``steps`` is what each chunk completes, where that is unambiguous."""
    return {"name": name, "chunks_hex": chunks, "text": text, "steps": steps}


BAD = "\ufffd"
UTF8 = [
    utf8("nothing", [], ""),
    utf8("empty chunks", ["", ""], "", ["", ""]),
    utf8("ASCII", ["68", "69"], "hi", ["h", "i"]),
    utf8("two bytes, apart", ["c3", "a9"], "\u00e9", ["", "\u00e9"]),
    utf8("three bytes, one by one", ["e4", "b8", "ad"], "\u4e2d", ["", "", "\u4e2d"]),
    utf8(
        "four bytes, one by one", ["f0", "9f", "98", "80"], "\U0001f600", ["", "", "", "\U0001f600"]
    ),
    utf8("four bytes, two and two", ["f09f", "9880"], "\U0001f600", ["", "\U0001f600"]),
    utf8(
        "the end of one and half of the next",
        ["e4b8", "ade5", "9bbd21"],
        "\u4e2d\u56fd!",
        ["", "\u4e2d", "\u56fd!"],
    ),
    utf8("text before half a character", ["6162c3", "a963"], "ab\u00e9c", ["ab", "\u00e9c"]),
    utf8(
        "combining mark apart from its letter", ["65", "cc", "81"], "e\u0301", ["e", "", "\u0301"]
    ),
    utf8(
        "emoji joined by ZWJ, cut inside",
        ["f09f91a8e2", "808df09f", "91a9"],
        "\U0001f468\u200d\U0001f469",
        ["\U0001f468", "\u200d", "\U0001f469"],
    ),
    utf8("NUL", ["00", "41"], "\0A", ["\0", "A"]),
    utf8("byte order mark is kept", ["efbb", "bf41"], "\ufeffA", ["", "\ufeffA"]),
    utf8("the last code point", ["f48fbf", "bf"], "\U0010ffff", ["", "\U0010ffff"]),
    utf8(
        "the first of each length",
        ["c280e0a080f0908080"],
        "\u0080\u0800\U00010000",
        ["\u0080\u0800\U00010000"],
    ),
    utf8("two bytes, never finished", ["41c3"], "A" + BAD),
    utf8("four bytes, three there", ["f09f98"], BAD),
    utf8("three bytes, two there, then a letter", ["e4b8", "41"], BAD + "A"),
    utf8("half a character before another", ["c3", "e4b8ad"], BAD + "\u4e2d"),
    utf8("a stray continuation byte", ["80", "41"], BAD + "A"),
    utf8("two stray continuation bytes", ["8081"], BAD * 2),
    utf8("bytes that never occur", ["c0", "c1", "f5", "ff"], BAD * 4),
    utf8("overlong slash", ["c0af"], BAD * 2),
    utf8("overlong in three", ["e0", "80af"], BAD * 3),
    utf8("overlong in four", ["f08080af"], BAD * 4),
    utf8("a surrogate", ["eda0", "80"], BAD * 3),
    utf8("past the last code point", ["f4908080"], BAD * 4),
    utf8("a byte from Latin-1", ["636166e9", "20"], "caf" + BAD + " "),
    utf8(
        "a long text, one byte at a time",
        [f"{b:02x}" for b in ("\u4e2d\U0001f600a\u00e9" * 100).encode()],
        "\u4e2d\U0001f600a\u00e9" * 100,
    ),
]


def documents() -> dict[str, dict[str, Any]]:
    """Every file of vectors by its name, but those of tokenizers."""
    return {
        "profanity.json": {
            "about": (
                "The filter with the entries `words` reads `text` as a whole. `match` is null, or "
                "the entry and the text before and in the match; places are given as texts, so "
                "that they mean the same in every language. The rules are in docs/safety.md."
            ),
            "cases": PROFANITY,
        },
        "stream_gate.json": {
            "about": (
                "`chunks` go through a gate of the entries `words`, then the text ends. `text` is "
                "all that comes out, the same for any other way to cut the chunks' text (try one "
                "piece, and single characters); `entry` is what ended it, or null. After "
                "`after_chunks` chunks, what came out begins with `at_least` and is a beginning of "
                "`at_most`."
            ),
            "cases": STREAM_GATE,
        },
        "context_window.json": {
            "about": (
                "The last `window` words of `text`, or tokens of `ids`. `left_out` says how many "
                "words or tokens are missing in `kept`; 0 means that it is what was given. White "
                "space is Unicode's Zs, Zl and Zp, U+0009 to U+000D, U+001C to U+001F and U+0085. "
                "A start token at the beginning stays, unless the window holds one token only."
            ),
            "cases": CONTEXT_WINDOW,
        },
        "utf8.json": {
            "about": (
                "Chunks of bytes, in hexadecimal, become whole characters. `text` is all of it, "
                "with the end; `steps`, where given, is what comes out after each chunk. What is "
                "not UTF-8 becomes one U+FFFD for each maximal subpart (Unicode, 3.9)."
            ),
            "cases": UTF8,
        },
    }


def as_text(document: dict[str, Any]) -> str:
    """One case on each line, all in ASCII."""
    facts = [
        f"{json.dumps(key)}: {json.dumps(document[key])}" for key in document if key != "cases"
    ]
    cases = ",\n".join(f"  {json.dumps(case)}" for case in document["cases"])
    return "{" + ",\n ".join([*facts, f'"cases": [\n{cases}\n]']) + "}\n"


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for file_name, document in documents().items():
        (FOLDER / file_name).write_text(as_text(document))
