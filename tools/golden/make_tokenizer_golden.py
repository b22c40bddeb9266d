#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: small tokenizers of each family, texts with their ids, words and normal forms, all as the
Hugging Face library gives them.

    pip install tokenizers==0.23.3 && python tools/golden/make_tokenizer_golden.py
"""

import json
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import tokenizers  # noqa: E402
from compare_tokenizers import TextMaker  # noqa: E402
from tokenizer_families import FAMILIES, LLAMA3_PATTERN, train  # noqa: E402
from tokenizers import Tokenizer, normalizers  # noqa: E402

OUT = ROOT / "tests/golden/tokenizer"
CL100K = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
O200K = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = [
    LLAMA3_PATTERN,
    CL100K,
    O200K,
    r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
    r"\s",
    r"\S+",
    r"\w+",
    r"\W",
    r"\d+",
    r"\D",
    r"\h+",
    r"\H",
    r"[\h\-]+",
    r"[^\S\n]+",
    r"^.",
    r".$",
    r".+",
    r"(?:a|b)*",
    r"a{,2}b",
    r"a{2}",
    r"a{1,}?",
    r"(?:a|b){1,2}+c",
    r"a{2}?",
    r"a{,1}+",
    r"\u4e2d{1}+",
    r"{",
    r"x{a}",
    r"\p{Han}+",
    r"\p{^L}",
    r"\P{L}+",
    r"\p{Greek}",
    r"\p{Lu}(?i:\p{Ll}+)",
    r"(?<=a)b",
    r"(?<!a)b",
    r"(?>a+)b",
    r"(?i)s+",
    r"(?i:a(?-i:b)c)",
    r"[]a]+",
    r"[a-c-e]+",
    r"[+--]",
    r"[\x{4e2d}\x41\t]",
    r"\v|\f|\e",
    r"[\w.]+",
    r"\A\s+|\s+\z",
    r"\p{P}|\p{S}",
    r"\p{M}+",
    r"\p{Cf}",
    r"\p{Z}",
    r"",
    r"a|",
    r"\u00e9|\.|\/|\é",
    r"(a)(b)",
    r"[\b]",
    r"(?i:K|\u00e5|\u017f)",
]
BEHAVIORS = ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
TEXTS = [
    "Hello, world! It's 2024-01-02; I'LL pay $1,234.50 (or 10%).",
    "  two  spaces\tand\r\n\r\n  lines \n",
    "'s'S'\u017f 'K'\u212a \u00df\u1e9e SS ss \u00e5\u00c5\u212b",
    "na\u00efve caf\u00e9 e\u0301 \u00c5ngstr\u00f6m \u03a3\u03c3\u03c2",
    "\u4e2d\u6587\u5b57\u3000\u304b\u306a\u30ab\u30ca\ud55c\uae00\u3001\u3002",
    "\u0645\u0631\u062d\u0628\u0627 \u0660\u0661 \u05e9\u05dc\u05d5\u05dd",
    "a\u180eb\u200bc\u2028d\u0085e\ufeff",
    "abbaabab aab ab aaa b",
    "x{a} {1} [] [a] a-c +,- . .. /",
    "\U00010d40\U00011de0\u00bd\u2167 \U000105c0\u1c89\u0897",
    "\U0001f600\u200d\U0001f469\ufe0f\U0001faff",
    "aB abC ABC aa\tbb\v\f\x1b\x08",
    "fooBar HTTPServer's isn't X\u01c5y",
    "\ufffd\ufffd a\n",
    "a",
    " ",
    "\n",
]
FORM_TEXTS = [
    "plain",
    "e\u0301\u0323",
    "a\u0323\u0301\u0334",
    "\u1100\u1161\u11a8",
    "\u1100\u1161\u11a7",
    "\uac00\u11a7x",
    "\uac00\u11a8",
    "\u212b\u2126\u00c5",
    "\ufb01\ufb1d\u2460\u00bd",
    "\u0344\u0958\u09c7\u09be",
    "\u304b\u3099\u309b",
    "\u0301\u0301a",
    "a\u0897\u0301",
    "a\u0301\u08d3\u0323",
    "e\u1abf\u0301",
    "\U00011935\U00011930",
    "\U00011938",
    "\U000105d2\u0307",
    "\u32ff\ua7f2",
    "a\u0345\u0301\u0345\u0323",
    "x\u0338=\u0338<\u0338",
    "\u01d5u\u0308\u0304",
    "\u1e9b\u0323",
]


def random_texts(n):
    maker = TextMaker(7, [])
    maker.english = "the of and to in is was for that with on as are by this from time word people year token chat model attention".split()
    maker.code = [
        "def f(x):\n    return x ** 2  # square\n\n\nclass A:\n\tpass\n",
        "for (int i = 0; i < n; ++i) { sum += a[i]; }\r\n",
    ]
    cut = random.Random(7)
    return [maker.document()[: cut.randint(1, 70)] for _ in range(n)]


def write(name, value):
    (OUT / name).write_text(json.dumps(value, separators=(",", ":"), ensure_ascii=False) + "\n")


def write_rows(name, rows):
    (OUT / name).write_text("".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows))


def family_rows(tokenizer, texts):
    for i, text in enumerate(texts):
        row = {"text": text}
        for name, parse in (("plain", False), ("parsed", True)):
            tokenizer.encode_special_tokens = not parse
            row[name] = tokenizer.encode(text, add_special_tokens=False).ids
            if i < 30:
                row[name + "_added"] = tokenizer.encode(text, add_special_tokens=True).ids
        ids = row["parsed_added" if i < 30 else "parsed"]
        row["decoded"] = tokenizer.decode(ids, skip_special_tokens=False)
        row["skipped"] = tokenizer.decode(ids, skip_special_tokens=True)
        if row["decoded"] == text:
            del row["decoded"]  # it is the text
        if row["skipped"] == row.get("decoded", text):
            del row["skipped"]  # it is what is decoded
        yield row


def words_of(pre_tokenizer, texts):
    spec = {"type": "Sequence", "pretokenizers": pre_tokenizer}
    empty = {
        "version": "1.0",
        "added_tokens": [],
        "pre_tokenizer": spec,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    try:
        split = Tokenizer.from_str(json.dumps(empty)).pre_tokenizer
    except Exception as error:  # the library raises nothing narrower
        print("refused by the library:", pre_tokenizer[0]["pattern"], error)
        return None
    return {
        "pre_tokenizer": spec,
        "words": [" ".join(word for word, _ in split.pre_tokenize_str(text)) for text in texts],
    }


def all_words():
    """Every pattern alone, and every behaviour with patterns that tell them apart."""
    bytes_only = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    split = lambda pattern, behavior, invert=False: {
        "type": "Split",
        "pattern": pattern,
        "behavior": behavior,
        "invert": invert,
    }  # noqa: E731
    for pattern in PATTERNS:
        yield [split({"Regex": pattern}, "Isolated"), bytes_only]
    for behavior in BEHAVIORS:
        for pattern in ({"Regex": r"\s"}, {"Regex": "a*"}, {"String": "a"}, {"String": "."}):
            yield [split(pattern, behavior), bytes_only]
            yield [split(pattern, behavior, True), bytes_only]
    for individual in (True, False):
        for space in (True, False):
            yield [
                {"type": "Digits", "individual_digits": individual},
                {**bytes_only, "add_prefix_space": space, "use_regex": True},
            ]
    yield [
        split({"Regex": r"\d"}, "Isolated"),
        split({"Regex": r"\s+"}, "MergedWithNext"),
        {**bytes_only, "use_regex": True},
    ]


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    texts = TEXTS + random_texts(110)
    for name in FAMILIES:
        tokenizer = train(name, texts * 3, 700)
        spec = json.loads(tokenizer.to_str())
        if name == "Qwen2":  # the older way to write merges
            spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
        stem = name.lower().replace("-", "")
        write(f"{stem}.json", spec)
        write_rows(f"{stem}_cases.jsonl", family_rows(Tokenizer.from_str(json.dumps(spec)), texts))
    write(
        "words.json",
        {
            "texts": TEXTS,
            "cases": [case for parts in all_words() if (case := words_of(parts, TEXTS))],
        },
    )
    forms = {
        name: [getattr(normalizers, name)().normalize_str(text) for text in FORM_TEXTS]
        for name in ("NFC", "NFD", "NFKC", "NFKD")
    }
    write("normal_forms.json", {"texts": FORM_TEXTS, **forms})
    (OUT / "README.md").write_text(
        f"Made with tokenizers {tokenizers.__version__} by tools/golden/make_tokenizer_golden.py "
        "(unicode_classes.json: tools/make_unicode_tables.py).\n"
    )


if __name__ == "__main__":
    main()
