#!/usr/bin/env python3
"""Compares `ssa tokenize` with the Hugging Face tokenizers library, token for token, and the time both take.

Makes mixed text from a seed (and from files named on the command line, one document each), trains one tokenizer for
each family's pipeline with the library, and encodes the text with both programs under four settings.

    pip install tokenizers==0.23.3 gguf
    python tools/compare_tokenizers.py --program build/ssa [--megabytes 20] [--gguf SMOLLM2.gguf] [FILE ...]
"""

import argparse
import glob
import json
import os
import pathlib
import random
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402  (reads the environment)

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
from tokenizer_families import FAMILIES, from_gguf, train  # noqa: E402

SCRIPTS = {
    "Chinese": (0x4E00, 0x9FA5),
    "Hiragana": (0x3041, 0x3096),
    "Katakana": (0x30A1, 0x30FA),
    "Hangul": (0xAC00, 0xD7A3),
    "Arabic": (0x0620, 0x064A),
    "Hebrew": (0x05D0, 0x05EA),
    "Devanagari": (0x0904, 0x094D),
    "Thai": (0x0E01, 0x0E3A),
    "Cyrillic": (0x0410, 0x044F),
    "Greek": (0x0386, 0x03CE),
    "Latin": (0x00C0, 0x024F),
    "Vietnamese": (0x1EA0, 0x1EF9),
}
WHITE = "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2009\u200a\u200b\u200c\u200d\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
MARKS = [
    chr(c)
    for r in (
        (0x300, 0x36F),
        (0x591, 0x5BD),
        (0x64B, 0x65F),
        (0x93C, 0x93C),
        (0x1AB0, 0x1AFF),
        (0x20D0, 0x20F0),
        (0x3099, 0x309A),
        (0xFE00, 0xFE0F),
        (0x1161, 0x1175),
        (0x11A7, 0x11C2),
    )
    for c in range(r[0], r[1] + 1)
]
EMOJI = [chr(c) for c in range(0x1F300, 0x1FAFF)] + [
    "\u200d",
    "\ufe0f",
    "\U0001f3fb",
    "\U0001f1e9\U0001f1ea",
    "\u2764",
    "\u20e3",
]
CONTRACTIONS = [
    "'s",
    "'S",
    "'\u017f",
    "'t",
    "'T",
    "'re",
    "'Re",
    "'RE",
    "'ve",
    "'VE",
    "'m",
    "'M",
    "'ll",
    "'LL",
    "'lL",
    "'d",
    "'D",
    "'",
    "''s",
    "\u2019s",
    "'st",
    "'ses",
    "'K",
    "'\u212a",
    "'de",
    "'r",
    "'v",
    "'l",
    "ain't",
    "y'all'd've",
    "'\u0149",
    "\ufb06",
]
TEMPLATE = [
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|begin_of_text|>",
    "<|eot_id|>",
    "<|im_",
    "end|>",
    "<|",
    "|>",
    "<tool>",
    "user\n",
    "<think>",
    "Zo\u00eb",
    "Zoe\u0308",
    "word",
    "  <|im_end|>  ",
]


class TextMaker:
    def __init__(self, seed, files):
        self.random = random.Random(seed)
        code = sorted(glob.glob(os.path.join(sysconfig.get_paths()["stdlib"], "*.py")))
        self.prose = [pathlib.Path(f).read_text(errors="replace") for f in files]
        self.code = [pathlib.Path(f).read_text(errors="replace") for f in code]
        self.words = {
            name: [
                "".join(self._pick(low, high) for _ in range(self.random.randint(1, 6)))
                for _ in range(3000)
            ]
            for name, (low, high) in SCRIPTS.items()
        }
        self.english = sorted(
            {w for text in self.code + self.prose for w in text.split() if w.isalpha()}
        )[:60000]
        self.makers = [
            self.english_words,
            self.english_words,
            self.slice_of_prose,
            self.slice_of_prose,
            self.slice_of_prose,
            self.slice_of_code,
            self.script,
            self.script,
            self.script,
            self.emoji,
            self.white,
            self.marks,
            self.any_character,
            self.run,
            self.numbers,
            self.contractions,
            self.template,
            self.controls,
        ]

    def _pick(self, low, high):
        return chr(self.random.randint(low, high))

    def _slice(self, texts):
        text = self.random.choice(texts)
        at = self.random.randrange(max(1, len(text)))
        return text[at : at + self.random.randint(1, 4000)]

    def _many(self, items, most):
        return "".join(self.random.choice(items) for _ in range(self.random.randint(1, most)))

    def english_words(self):
        return " ".join(
            self.english[int(len(self.english) * self.random.random() ** 3)]
            for _ in range(self.random.randint(1, 200))
        )

    def slice_of_prose(self):
        return self._slice(self.prose or self.code)

    def slice_of_code(self):
        return self._slice(self.code)

    def script(self):
        words = self.words[self.random.choice(sorted(self.words))]
        glue = self.random.choice(["", " ", " ", "\u3002", "\u060c ", ", "])
        return glue.join(
            words[int(len(words) * self.random.random() ** 2)]
            for _ in range(self.random.randint(1, 300))
        )

    def emoji(self):
        return self._many(EMOJI + [" ", "a", "!"], 60)

    def white(self):
        return self._many(list(WHITE) + ["\r\n", "   ", "a", ".", "\ufffd"], 60)

    def marks(self):
        return self._many(
            MARKS
            + list("aeouAKyz \u0131\u1100\uac00\u304b\u0915\u09c7\u2126\u212b\ufb1d\u0344\u00c5"),
            60,
        )

    def any_character(self):
        planes = [
            (0, 0x7F),
            (0x80, 0x7FF),
            (0x800, 0xD7FF),
            (0xE000, 0xFFFF),
            (0x10000, 0x1FFFF),
            (0x20000, 0x10FFFF),
        ]
        return "".join(
            self._pick(*self.random.choice(planes)) for _ in range(self.random.randint(1, 200))
        )

    def run(self):
        length = int(10 ** self.random.uniform(0.3, 3.5))
        return (
            self.random.choice(
                [
                    "a",
                    " ",
                    "\n",
                    "=",
                    "-",
                    "\t",
                    "\r\n",
                    "ab",
                    "\u4e2d",
                    "0",
                    "\u0301",
                    "\xa0",
                    "\ufffd",
                    "'",
                    "\U0001f600",
                    " a",
                    "A ",
                ]
            )
            * length
        )

    def numbers(self):
        digits = self.random.choice(
            [
                "0123456789",
                "0123456789",
                "\u0660\u0661\u0662\u0669",
                "\u00bd\u00b2\u2167\u3007\u4e94",
                "\uff11\uff12\U0001d7ce\U00010d40",
            ]
        )
        return self.random.choice([" ", ",", ".", "a", "-"]).join(
            self._many(digits, 12) for _ in range(self.random.randint(1, 20))
        )

    def contractions(self):
        return "".join(
            self.random.choice(["I", " we", "x", " ", "\n", "\u00e9", "7"])
            + self.random.choice(CONTRACTIONS)
            for _ in range(self.random.randint(1, 30))
        )

    def template(self):
        return self._many(TEMPLATE + [" ", "\n", "a", "_", "9", "\u00e9", "\u200d", "\u0301"], 12)

    def controls(self):
        return self._many(
            [chr(c) for c in range(1, 32)]
            + [
                "\x7f",
                "\x80",
                "\x9f",
                "\xad",
                "\u200e",
                "\u202e",
                "\ufffd",
                "\uffff",
                "\U0010ffff",
                "a",
                " ",
                "\0",
            ],
            40,
        )

    def document(self):
        text = "".join(
            self.random.choice(self.makers)() + self.random.choice(["", "", " ", "\n", "\n\n"])
            for _ in range(self.random.randint(1, 12))
        )
        at = self.random.randrange(
            max(1, len(text))
        )  # cut anywhere: words and marks meet what they should not
        return text[at:] + text[:at]


def make_documents(seed, megabytes, files):
    maker = TextMaker(seed, files)
    documents = [
        "",
        " ",
        "\n",
        "a",
        "\u0301",
        "a" * 100_000,
        " " * 100_000,
        "\u4e2d" * 30_000,
        "\u0301\u0323" * 20_000,
    ]
    size = sum(len(d.encode()) for d in documents)
    while size < megabytes * 1e6:
        documents.append(maker.document())
        size += len(documents[-1].encode())
    return documents


def write_rows(path, documents):
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))


def run_program(program, folder, rows, flags):
    """The ids of every row, and the seconds it took."""
    start = time.perf_counter()
    out = subprocess.run(
        [program, "tokenize", str(folder), "--jsonl", str(rows), *flags],
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.perf_counter() - start
    return [json.loads(line)["ids"] for line in out.stdout.splitlines()], seconds


def first_difference(document, ours, theirs):
    at = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs))
    )
    return f"token {at}: ours {ours[at:at + 6]}, theirs {theirs[at:at + 6]} in {document[:60]!r}..."


def compare(program, name, tokenizer, documents, folder):
    """Number of documents encoded differently."""
    n_bad = 0
    rows = folder / "rows.jsonl"
    write_rows(rows, documents)
    for flags in ([], ["--parse-special"], ["--add-special"], ["--parse-special", "--add-special"]):
        tokenizer.encode_special_tokens = "--parse-special" not in flags
        ours, _ = run_program(program, folder, rows, flags)
        bad = 0
        for document, mine in zip(documents, ours, strict=True):
            theirs = tokenizer.encode(document, add_special_tokens="--add-special" in flags).ids
            if mine != theirs:
                bad += 1
                if bad <= 3:
                    print("  DIFFERS", first_difference(document, mine, theirs))
        n_bad += bad
        print(
            f"{name:18} {' '.join(flags) or 'plain':32} {len(documents)} documents, {sum(map(len, ours))} tokens, {bad} differ",
            flush=True,
        )
    return n_bad


def best_of(n, work):
    times = []
    for _ in range(n):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(program, name, tokenizer, documents, folder):
    """Encoding one document after the other, and all of them as one. Our time is the whole program's, with reading JSON
    and printing ids, less that of an empty file; the library's is that of encoding alone."""
    tokenizer.encode_special_tokens = True
    nothing, rows = folder / "nothing.jsonl", folder / "rows.jsonl"
    write_rows(nothing, [])
    for what, texts in (("documents", documents), ("one document", ["".join(documents)])):
        write_rows(rows, texts)
        n_bytes = sum(len(t.encode()) for t in texts)
        start_up = best_of(3, lambda: run_program(program, folder, nothing, []))
        ours = (
            best_of(
                3,
                lambda: subprocess.run(
                    [program, "tokenize", str(folder), "--jsonl", str(rows)],
                    check=True,
                    stdout=subprocess.DEVNULL,
                ),
            )
            - start_up
        )
        slow = best_of(
            3, lambda: [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]
        )
        fast = best_of(
            3, lambda: [e.ids for e in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
        )
        speeds = [n_bytes / seconds / 1e6 for seconds in (ours, slow, fast)]
        print(
            f"{name:18} {what:14} {n_bytes / 1e6:5.1f} MB: ssa {speeds[0]:6.1f} MB/s, encode {speeds[1]:5.1f}, encode_batch_fast {speeds[2]:5.1f}: "
            f"{speeds[0] / max(speeds[1:]):.1f}x (start-up {start_up:.2f} s)",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="real text for the mix")
    parser.add_argument("--program", default="build/ssa")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=24000)
    parser.add_argument(
        "--gguf", help="a GGUF file whose vocabulary is compared as well (SmolLM2's)"
    )
    parser.add_argument(
        "--speed", action="store_true", help="measure the time, too, over the files"
    )
    options = parser.parse_args()
    documents = make_documents(options.seed, options.megabytes, options.files)
    corpus = documents[9::3] + [pathlib.Path(f).read_text(errors="replace") for f in options.files]
    print(
        f"{len(documents)} documents, {sum(len(d.encode()) for d in documents) / 1e6:.1f} MB, tokenizers {tokenizers.__version__}"
    )
    n_bad = 0
    families = {name: train(name, corpus, options.vocabulary) for name in FAMILIES}
    if options.gguf:
        families["SmolLM2 (GGUF)"] = from_gguf(options.gguf)
    for name, tokenizer in families.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            tokenizer.save(str(folder / "tokenizer.json"))
            n_bad += compare(options.program, name, tokenizer, documents, folder)
            if options.speed:
                prose = "".join(pathlib.Path(f).read_text(errors="replace") for f in options.files)
                texts = (
                    [prose[i : i + 4000] for i in range(0, len(prose), 4000)]
                    if prose
                    else documents
                )
                measure(options.program, name, tokenizer, texts, folder)
    sys.exit(n_bad != 0)


if __name__ == "__main__":
    main()
