"""Plain text in which earlier words are asked for again, from rows of documents, question and answer: for language models from scratch.

    python3 tools/studies/recall_text.py --out recall.jsonl needles.jsonl keys.jsonl copies.jsonl [--rows-per-text 50] [--seed 1]

Rows as `ssa eval make --names train` and `tools/make_copy_rows.py` write them. Each becomes its documents, the question and the answer;
so many of them in a row are one text, {"text"}, long enough to fill whole rows of a training batch. Python's standard library alone.
"""

import argparse
import json
import random


def read_rows(paths):
    for path in paths:
        with open(path, encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)


def passage(row):
    return "\n".join([*(document.strip() for document in row["documents"]), f"{row['question']} {row['answer']}"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="+")
    parser.add_argument("--out", required=True)
    parser.add_argument("--rows-per-text", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    passages = [passage(row) for row in read_rows(args.rows)]
    random.Random(args.seed).shuffle(passages)
    with open(args.out, "w", encoding="utf-8") as out:
        for begin in range(0, len(passages), args.rows_per_text):
            text = "\n\n".join(passages[begin : begin + args.rows_per_text])
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    print(f"{len(passages)} rows, {sum(map(len, passages)) / 1e6:.1f}M characters")


if __name__ == "__main__":
    main()
