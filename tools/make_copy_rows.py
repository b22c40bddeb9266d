"""Rows whose answer stands word for word in a long text: key-value blocks, facts, lines of a list, passages to go on
with. For continued pretraining, as a tenth of the rows:

    tools/make_copy_rows.py --out copy.jsonl --text long.train.txt --rows 2500
    ssa data build MODEL --input copy.jsonl --kind qa --document-format '{}' --question-format '\\n{}' --out copy

A row is {"documents", "question", "answer", "gold", "kind"}, of about 1,900 to 7,400 tokens. The question ends with a
cue, so that the answer is what comes next, as in `ssa eval make`; names, keys and sentences are others than there
(no vaults, no access codes, no name that begins like one of the evaluation's). Filler is running text of the file.
"""

import argparse
import json
import random
import re
from pathlib import Path

BYTES_PER_TOKEN = 4.3
# None of these begins as the names of `ssa eval make --names eval` do: Hal, Ister, Nor.
HEADS = """
Vel Kar Dun Os Tam Bro Pel Mar Lin Quo Zar Fen Ald Bri Cor Dra Elm Gor Jas Kel Lor Mil Oak Pra Ros Sil Tor Ulm Wes Yar
""".split()
TAILS = """
mora stein wick ovia holt gate by ford ault enna dale field mont ridge ton ley mere stad burg ville
""".split()
PLAIN = """
amber basin candle desert engine feather garden harbour island jacket kettle lantern marble needle orchard pepper
quartz ribbon saddle timber umbrella velvet walnut yarrow zinc anchor bottle copper dragon ember
""".split()
THINGS = ["number", "phone line", "postal code", "serial mark", "record", "population", "bus line", "price", "account",
          "locker", "call sign", "colour", "patron", "motto", "founder", "opening year",
          "weight in kilograms"]  # fmt: skip
FACTS = [  # how a fact is told, and the cue that asks for it
    ("The {w} of {n} is {v}.", "What is the {w} of {n}? The {w} of {n} is"),
    ("Note: {n} has {w} {v}.", "Recall that {n} has {w}"),
    ("{n}: {w} = {v};", "{n}: {w} ="),
    ("Everyone in {n} knows the {w}, {v}.", "Everyone in {n} knows the {w},"),
    ("It was written down that {n} would keep {v} as its {w}.", "Question: what did {n} keep as its {w}? Answer:"),
    ("({n}, {w}: {v})", "Complete: ({n}, {w}:"),
]
LINES = [
    "{k}: {v}",
    "{k} = {v}",
    "{k} -> {v}",
    "{k}\t{v}",
    "| {k} | {v} |",
    '"{k}": "{v}",',
    "{k} is {v}",
    "<{k}>{v}</{k}>",
]
CUES = ["{line}", "The entry again: {line}", "What stands at {k}? {line}", "Look up {k}.\n{line}"]


class Maker:
    def __init__(self, text, rng):
        self.rng = rng
        self.documents = [document for document in text.split("\0") if len(document) > 40_000]

    # -- material --------------------------------------------------------------------------------------------------

    def filler(self, size):
        """Whole lines of one document, about `size` characters."""
        document = self.rng.choice(self.documents)
        start = document.find("\n", self.rng.randrange(max(1, len(document) - size))) + 1
        text = document[start : start + size]
        while len(text) < size:
            document = self.rng.choice(self.documents)
            text += "\n" + document[: size - len(text)]
        return text[: max(text.rfind(". "), size // 2) + 1].strip()

    def name(self):
        return self.rng.choice(HEADS) + self.rng.choice(TAILS)

    def key(self, kind):
        rng = self.rng
        return {
            "name": lambda: self.name() + rng.choice(TAILS),
            "words": lambda: f"{rng.choice(PLAIN)}-{rng.choice(PLAIN)}",
            "hex": lambda: f"{rng.getrandbits(32):08x}",
            "path": lambda: f"{rng.choice(PLAIN)}.{rng.choice(PLAIN)}.{rng.randint(1, 99)}",
            "number": lambda: str(rng.randint(1000, 999_999)),
        }[kind]()

    def value(self):
        rng = self.rng
        return rng.choice([
            lambda: str(rng.randint(10_000, 99_999)), lambda: str(rng.randint(100, 9_999_999)),
            lambda: f"{rng.getrandbits(40):010x}", lambda: f"{rng.choice(PLAIN)} {rng.choice(PLAIN)}",
            lambda: f"{self.name()} {rng.randint(2, 99)}",
            lambda: f"{rng.randint(1, 28)}.{rng.randint(1, 12)}.{rng.randint(1800, 2020)}",
        ])()  # fmt: skip

    def unique(self, make, n):
        found = {}
        while len(found) < n:
            found[make()] = None
        return list(found)

    # -- kinds of rows: (pieces to hide in a text, question, answer) -----------------------------------------------

    def key_values(self):
        rng = self.rng
        kind = rng.choice(["name", "words", "hex", "path", "number"])
        form, n = rng.choice(LINES), rng.choice([4, 8, 16, 32, 48])
        keys = self.unique(lambda: self.key(kind), n)
        values = [self.value() for _ in keys]
        asked = rng.randrange(n)
        lines = [form.format(k=key, v=value) for key, value in zip(keys, values, strict=True)]
        line = form[: form.index("{v}")].rstrip().format(k=keys[asked])
        cue = rng.choice(CUES).format(line=line, k=keys[asked])
        n_blocks = rng.choice([1, 1, 2, 4])
        size = -(-n // n_blocks)
        blocks = ["\n".join(lines[start : start + size]) for start in range(0, n, size)]
        return blocks, cue, values[asked]

    def facts(self):
        rng = self.rng
        n = rng.choice([1, 2, 4, 8])
        names, form, word = self.unique(self.name, n), rng.choice(FACTS), rng.choice(THINGS)
        values = [self.value() for _ in names]
        mixed = rng.random() < 0.5  # facts of one form and word are harder to tell apart
        asked, pieces, cue = rng.randrange(n), [], ""
        for i, (name, value) in enumerate(zip(names, values, strict=True)):
            told, asks = rng.choice(FACTS) if mixed else form
            thing = rng.choice(THINGS) if mixed else word
            pieces.append(told.format(n=name, w=thing, v=value))
            cue = asks.format(n=name, w=thing) if i == asked else cue
        return pieces, cue, values[asked]

    def numbered(self):
        rng = self.rng
        n = rng.choice([10, 20, 40])
        lines = self.unique(lambda: " ".join(rng.sample(PLAIN, rng.randint(2, 5))), n)
        asked = rng.randrange(n)
        text = "\n".join(f"{i + 1}. {line}" for i, line in enumerate(lines))
        cue = rng.choice(["Line {i} of the list:", "The list again, from its line {i}:\n{i}."])
        return [text], cue.format(i=asked + 1), lines[asked]

    def passage(self, text):
        """Words of the text itself, asked for by those in front of them; None where they are not unique."""
        rng = self.rng
        words = [(match.start(), match.end()) for match in re.finditer(r"\S+", text)]
        n_given, n_asked = rng.randint(6, 14), rng.choice([12, 24, 48, 96])
        if len(words) < 4 * (n_given + n_asked):
            return None
        first = rng.randrange(len(words) - n_given - n_asked - 1)
        begin, middle, end = words[first][0], words[first + n_given - 1][1], words[first + n_given + n_asked - 1][1]
        given, answer = text[begin:middle], text[middle:end].strip()
        if "\n" in text[begin:end] or text.count(given) != 1:
            return None
        cue = rng.choice(
            ["Repeat from the text: {}", "Quote: {}", "The text says: {}", "Go on as in the text. {}", "{}"]
        )
        return cue.format(given), answer

    # -- a row -----------------------------------------------------------------------------------------------------

    def row(self):
        rng = self.rng
        low, high = rng.choice([(1900, 2600), (3000, 4000), (4000, 7400)])
        size = int(rng.uniform(low, high) * BYTES_PER_TOKEN)
        kind = rng.choices(["key-value", "facts", "list", "passage"], [4, 3, 1, 3])[0]
        text = self.filler(size)
        if kind == "passage":
            found = self.passage(text)
            if found is None:
                return None
            return {"documents": [text], "question": found[0], "answer": found[1], "gold": [0], "kind": kind}
        pieces, cue, answer = {"key-value": self.key_values, "facts": self.facts, "list": self.numbered}[kind]()
        text = text[: size - 2 * sum(map(len, pieces))]  # keys have twice as many tokens as prose
        places = [match.end() for match in re.finditer(r"[.!?\n]\s+", text)]
        if len(places) <= len(pieces):
            return None
        joint = " " if kind == "facts" else "\n"
        for piece, place in zip(reversed(pieces), sorted(rng.sample(places, len(pieces)), reverse=True), strict=True):
            text = text[:place].rstrip(" ") + joint + piece + joint + text[place:]
        return {"documents": [text], "question": cue, "answer": answer, "gold": [0], "kind": kind}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--text", type=Path, required=True, help="training text, NUL bytes between documents")
    parser.add_argument("--rows", type=int, default=2500)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    maker = Maker(arguments.text.read_text(encoding="utf-8"), random.Random(arguments.seed))
    n_rows = 0
    with open(arguments.out, "w", encoding="utf-8") as file:
        while n_rows < arguments.rows:
            row = maker.row()
            if row:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                n_rows += 1
    print(f"{arguments.out}: {n_rows:,} rows, {arguments.out.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
