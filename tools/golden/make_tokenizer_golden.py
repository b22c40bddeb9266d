#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/: small tokenizers of each family, texts with their ids, words and normal forms, all as
the Hugging Face library gives them.

    pip install tokenizers==0.23.3 && python tools/golden/make_tokenizer_golden.py
"""

import json
import pathlib
import random
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import tokenizers  # noqa: E402
from mixed_text import TextMaker  # noqa: E402
from tokenizer_families import FAMILIES, LLAMA3_PATTERN, train  # noqa: E402
from tokenizers import Tokenizer, normalizers  # noqa: E402

OUT = ROOT / "tests/golden/tokenizer"
CL100K_PATTERN = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|"
    r"\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)
O200K_PATTERN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = [LLAMA3_PATTERN, CL100K_PATTERN, O200K_PATTERN, ""]
PATTERNS += r"""
\s \S+ \w+ \W \d+ \D \h+ \H [\w.]+ [\h\-]+ [^\S\n]+ [\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+
^. .$ .+ \A\s+|\s+\z \v|\f|\e [\b] \u00e9|\.|\/|\é [\x{4e2d}\x41\t]
(?:a|b)* a{,2}b a{2} a{1,}? (?:a|b){1,2}+c a{2}? a{,1}+ \u4e2d{1}+ { x{a} (a)(b) a|
\p{Han}+ \p{^L} \P{L}+ \p{Greek} \p{P}|\p{S} \p{M}+ \p{Cf} \p{Z} \p{Lu}(?i:\p{Ll}+)
(?<=a)b (?<!a)b (?>a+)b (?i)s+ (?i:a(?-i:b)c) (?i:K|\u00e5|\u017f)
[]a]+ [a-c-e]+ [+--]
""".split()
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
FORM_TEXTS = (
    "plain e\u0301\u0323 a\u0323\u0301\u0334 \u1100\u1161\u11a8 \u1100\u1161\u11a7 \uac00\u11a7x "
    "\uac00\u11a8 \u212b\u2126\u00c5 \ufb01\ufb1d\u2460\u00bd \u0344\u0958\u09c7\u09be "
    "\u304b\u3099\u309b \u0301\u0301a a\u0897\u0301 a\u0301\u08d3\u0323 e\u1abf\u0301 "
    "\U00011935\U00011930 \U00011938 \U000105d2\u0307 \u32ff\ua7f2 a\u0345\u0301\u0345\u0323 "
    "x\u0338=\u0338<\u0338 \u01d5u\u0308\u0304 \u1e9b\u0323"
).split(" ")
PROSE = "the of and to in is was for that with on as are by this from time word people year token"
CODE = "def f(x):\n    return x ** 2  # square\n\nfor (int i = 0; i < n; ++i) { sum += a[i]; }\r\n"


def write(name, value):
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    (OUT / name).write_text(text + "\n")


def write_rows(name, rows):
    lines = [json.dumps(row, separators=(",", ":")) + "\n" for row in rows]
    (OUT / name).write_text("".join(lines))


def family_rows(tokenizer, texts):
    for i, text in enumerate(texts):
        row = {"text": text}
        for name, parse in (("plain", False), ("parsed", True)):
            tokenizer.encode_special_tokens = not parse
            row[name] = tokenizer.encode(text, add_special_tokens=False).ids
            if i < 30:
                row[name + "_added"] = tokenizer.encode(text, add_special_tokens=True).ids
        ids = row.get("parsed_added", row["parsed"])
        decoded = tokenizer.decode(ids, skip_special_tokens=False)
        skipped = tokenizer.decode(ids, skip_special_tokens=True)
        if decoded != text:
            row["decoded"] = decoded
        if skipped != decoded:
            row["skipped"] = skipped
        yield row


def words_of(parts):
    """The words of every text; without a space in them, because byte-level words have none."""
    spec = {"type": "Sequence", "pretokenizers": parts}
    empty = {"type": "BPE", "vocab": {}, "merges": []}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": spec, "model": empty}
    split = Tokenizer.from_str(json.dumps(tokenizer)).pre_tokenizer
    words = [" ".join(word for word, _ in split.pre_tokenize_str(text)) for text in TEXTS]
    return {"pre_tokenizer": spec, "words": words}


def split(pattern, behavior="Isolated", invert=False):
    return {"type": "Split", "pattern": pattern, "behavior": behavior, "invert": invert}


def byte_level(add_prefix_space=False, use_regex=False):
    settings = {"add_prefix_space": add_prefix_space, "use_regex": use_regex}
    return {"type": "ByteLevel", "trim_offsets": True, **settings}


def all_words():
    """Every pattern alone, and every behaviour with patterns that tell them apart."""
    for pattern in PATTERNS:
        yield words_of([split({"Regex": pattern}), byte_level()])
    for behavior in BEHAVIORS:
        for pattern in ({"Regex": r"\s"}, {"Regex": "a*"}, {"String": "a"}, {"String": "."}):
            yield words_of([split(pattern, behavior), byte_level()])
            yield words_of([split(pattern, behavior, True), byte_level()])
    for individual in (True, False):
        digits = {"type": "Digits", "individual_digits": individual}
        yield words_of([digits, byte_level(use_regex=True)])
        yield words_of([digits, byte_level(add_prefix_space=True, use_regex=True)])
    two = [split({"Regex": r"\d"}), split({"Regex": r"\s+"}, "MergedWithNext")]
    yield words_of([*two, byte_level(use_regex=True)])


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    maker = TextMaker(7, [PROSE], [CODE])
    cut = random.Random(7)
    texts = TEXTS + [maker.document()[: cut.randint(1, 70)] for _ in range(110)]
    for name in FAMILIES:
        spec = json.loads(train(name, texts * 3, 700).to_str())
        if name == "Qwen2":  # the older way to write merges
            spec["model"]["merges"] = [" ".join(pair) for pair in spec["model"]["merges"]]
        stem = name.lower().replace("-", "")
        write(f"{stem}.json", spec)
        tokenizer = Tokenizer.from_str(json.dumps(spec))
        write_rows(f"{stem}_cases.jsonl", family_rows(tokenizer, texts))
    write("words.json", {"texts": TEXTS, "cases": list(all_words())})
    forms = {"texts": FORM_TEXTS}
    for name in ("NFC", "NFD", "NFKC", "NFKD"):
        form = getattr(normalizers, name)()
        forms[name] = [form.normalize_str(text) for text in FORM_TEXTS]
    write("normal_forms.json", forms)
    (OUT / "README.md").write_text(
        f"Made with tokenizers {tokenizers.__version__} by tools/golden/make_tokenizer_golden.py "
        "(unicode_classes.json: by tools/make_unicode_tables.py).\n"
    )


if __name__ == "__main__":
    main()
