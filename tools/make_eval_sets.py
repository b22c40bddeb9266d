"""Items for `ssa eval`: questions over documents, needles and key-value blocks, from the files that SOURCES.md of the
data names. None of them may be trained on.

    tools/make_eval_sets.py --model MODEL --data ../shared/data --filler text/wikivisual.heldout.txt --out sets

| file | items | documents |
|---|---|---|
| xquad-gold | all questions of XQuAD, English | the gold paragraph |
| xquad-4k, xquad-8k | 400 of them, the same in both | among paragraphs of other articles, to 3,800 and 7,800 tokens |
| hotpotqa | HotpotQA dev300 | its ten paragraphs |
| nq-N | 400 of NQ's half, the same in all | the gold paragraph among N - 1 of other questions; N = 1, 5, 10, 20, 40 |
| niah-single-L, niah-multi-L, kv-L | 300 of `ssa eval make` | one of L = 2,000, 4,000, 8,000 tokens |

Lengths are counted by MODEL's tokenizer. No other paragraph holds one of the answers. "evidence" marks the answer's
characters where it stands in the gold paragraph, else (HotpotQA) the supporting sentences; "gold" the paragraphs. The
gold paragraph's place is drawn evenly. Paragraphs that do not fit 7,800 tokens are left out; `n_documents` says how
many there are.
"""

import argparse
import json
import lzma
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

from questions.other_rows import titled

MOST_TOKENS = 7800  # of documents, where a model has 8,192 positions
NQ_COUNTS = (1, 5, 10, 20, 40)
NEEDLES = {"niah-single": ("niah", "--kind", "single"), "niah-multi": ("niah", "--kind", "multi-key"), "kv": ("kv",)}
NEEDLE_LENGTHS = {"2k": 1900, "4k": 3800, "8k": 7700}


def read_lines(path):
    return [json.loads(line) for line in lzma.decompress(Path(path).read_bytes()).decode().splitlines() if line.strip()]


class TokenCounter:
    """Lengths of paragraphs in tokens, counted in one run of the program; what is around them is 2 tokens."""

    def __init__(self, program, model, texts):
        texts = sorted(set(texts))
        rows = "".join(json.dumps({"text": text}) + "\n" for text in texts)
        command = [program, "tokenize", model, "--jsonl", "-"]
        lines = subprocess.run(command, input=rows.encode(), check=True, capture_output=True).stdout.splitlines()
        if len(lines) != len(texts):
            sys.exit(f"{program} tokenize gave {len(lines)} lines for {len(texts)} texts")
        self.lengths = {text: len(json.loads(line)["ids"]) + 2 for text, line in zip(texts, lines, strict=True)}

    def __call__(self, text):
        return self.lengths[text]


# -- items -------------------------------------------------------------------------------------------------------------


def lay_item(item, gold, others, rng):
    """The item with its gold paragraph at a random place among others; its answer's characters are the evidence."""
    place = rng.randint(0, len(others))
    at = next((gold.find(answer) for answer in item["answers"] if answer in gold), -1)
    answer = next((answer for answer in item["answers"] if answer in gold), "")
    if "start" in item and gold.endswith(item["paragraph"]):
        at, answer = len(gold) - len(item["paragraph"]) + item["start"], item["answers"][0]
    evidence = [[place, at, at + len(answer)]] if at >= 0 and answer else [place]
    documents = [*others[:place], gold, *others[place:]]
    return {"id": item["id"], "documents": documents, "question": item["question"], "answers": item["answers"],
            "gold": [place], "evidence": evidence, "n_documents": len(documents)}  # fmt: skip


def holds_answer(text, answers):
    low = text.lower()
    return any(re.search(r"(?<!\w)" + re.escape(answer.lower()) + r"(?!\w)", low) for answer in answers)


def draw_others(item, gold, texts, count, room, most, rng):
    """Up to `most` paragraphs that lack the answers and fit into `room` tokens beside the gold one."""
    others, room = [], room - count(gold)
    for text in rng.sample(texts, len(texts)):
        if len(others) >= most or room < 40:
            break
        if text != gold and count(text) <= room and not holds_answer(text, item["answers"]):
            others.append(text)
            room -= count(text)
    return others


def read_xquad(path):
    items, paragraphs = [], []
    for article in json.loads(Path(path).read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            paragraphs.append(paragraph["context"])
            for qa in paragraph["qas"]:
                answers = list(dict.fromkeys(answer["text"] for answer in qa["answers"]))
                items.append({"id": qa["id"], "question": qa["question"], "answers": answers,
                              "paragraph": paragraph["context"], "start": qa["answers"][0]["answer_start"],
                              "article": article["title"]})  # fmt: skip
    return items, paragraphs


def make_xquad(path, counter, rng):
    items, paragraphs = read_xquad(path)
    count = counter(paragraphs)
    yield "xquad-gold", [lay_item(item, item["paragraph"], [], rng) for item in items]
    articles = {item["paragraph"]: item["article"] for item in items}
    chosen = rng.sample(items, 400)
    for name, room in (("xquad-4k", 3800), ("xquad-8k", MOST_TOKENS)):
        rows = []
        for item in chosen:
            texts = [text for text in paragraphs if articles[text] != item["article"]]
            others = draw_others(item, item["paragraph"], texts, count, room, len(texts), rng)
            rows.append(lay_item(item, item["paragraph"], others, rng))
        yield name, rows


def make_nq(path, counter, rng):
    rows = read_lines(path)
    items, texts = [], []
    for number, row in enumerate(rows):
        context = next(context for context in row["ctxs"] if context.get("isgold", True))
        texts.append(titled(context["title"], context["text"]))
        answers = list(dict.fromkeys(answer.strip(" ,.;") for answer in row["answers"]))
        answers.sort(key=lambda answer: answer not in texts[-1])  # likelihood is the first one's
        items.append({"id": str(number + 1), "question": row["question"].rstrip("?") + "?",
                      "answers": [answer for answer in answers if answer], "gold": texts[-1]})  # fmt: skip
    count = counter(texts)
    chosen = rng.sample(items, 400)
    for n in NQ_COUNTS:
        rows = []
        for item in chosen:
            others = draw_others(item, item["gold"], texts, count, MOST_TOKENS, n - 1, rng)
            rows.append(lay_item(item, item["gold"], others, rng))
        yield f"nq-{n}", rows


def make_hotpotqa(path):
    items = []
    for row in read_lines(path):
        titles, sentences = row["context"]["title"], row["context"]["sentences"]
        documents = [titled(title, "".join(parts)) for title, parts in zip(titles, sentences, strict=True)]
        evidence = []
        for title, number in zip(row["supporting_facts"]["title"], row["supporting_facts"]["sent_id"], strict=True):
            place = titles.index(title)
            if number < len(sentences[place]):
                sentence = sentences[place][number].strip()
                at = documents[place].find(sentence)
                evidence.append([place, at, at + len(sentence)] if sentence and at >= 0 else place)
        gold = sorted({titles.index(title) for title in row["supporting_facts"]["title"]})
        items.append({"id": row["id"], "documents": documents, "question": row["question"], "answers": [row["answer"]],
                      "gold": gold, "evidence": evidence, "n_documents": len(documents)})  # fmt: skip
    return items


def make_needles(arguments):
    for name, (task, *flags) in NEEDLES.items():
        for label, length in NEEDLE_LENGTHS.items():
            out = arguments.out / f"{name}-{label}.jsonl"
            command = [arguments.ssa, "eval", "make", task, arguments.model, "--text", arguments.filler,
                       "--out", str(out), "--items", str(arguments.needles), "--length", str(length),
                       "--names", "eval", *flags]  # fmt: skip
            subprocess.run(command, check=True, capture_output=True)
            print(f"{out}: {arguments.needles} items")


def write(out, name, items):
    path = out / f"{name}.jsonl"
    path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    sizes = Counter(len(item["documents"]) for item in items)
    print(f"{path}: {len(items)} items of {min(sizes)} to {max(sizes)} documents")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ssa", default="build/ssa", help="the program (default: build/ssa)")
    parser.add_argument("--model", required=True, help="whose tokenizer counts")
    parser.add_argument("--data", type=Path, required=True, help="folder of xquad_en.json and the others")
    parser.add_argument("--filler", help="held-out text for needles and key-value blocks; without it none are made")
    parser.add_argument("--needles", type=int, default=300, help="items of each kind and length (default: 300)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    rng = random.Random(arguments.seed)

    def counter(texts):
        return TokenCounter(arguments.ssa, arguments.model, texts)

    for name, items in make_xquad(arguments.data / "xquad_en.json", counter, rng):
        write(arguments.out, name, items)
    for name, items in make_nq(arguments.data / "nq_open_oracle_half.jsonl.xz", counter, rng):
        write(arguments.out, name, items)
    write(arguments.out, "hotpotqa", make_hotpotqa(arguments.data / "hotpotqa_dev300.jsonl.xz"))
    if arguments.filler:
        make_needles(arguments)


if __name__ == "__main__":
    main()
