"""Long documents for continued pretraining, chosen from the files of tools/extract_sources.py.

    tools/make_long_text.py --out long.train.txt --source text/wikivisual.train.txt 100 --source BOOKS 28 ...

Each --source names a file and how many megabytes (10^6 bytes) to take of it. Documents of a source are taken at random
within three classes of length, longest class first: rows are windows of a document, so a document should fill at least
one window of 8K tokens (70% of the bytes), of 4K (20%) or of 2K (10%); what a class lacks the others give. Documents
longer than --most bytes, books above all, give a stretch of that length from paragraph to paragraph. No text is written
twice. NUL bytes stand between documents.
"""

import argparse
import random
import sys
from pathlib import Path

CLASSES = [(36_000, 0.7), (18_000, 0.2), (9_000, 0.1)]  # least bytes, share of a source's bytes


def cut(text, most, rng):
    """A stretch of at most `most` characters, from the start of one line to the end of another."""
    if len(text) <= most:
        return text
    start = rng.randrange(len(text) - most)
    start = text.find("\n", start) + 1 or start
    end = text.rfind("\n", start, start + most)
    return text[start : end if end > start else start + most].strip()


def choose(documents, n_bytes, rng):
    """Documents of about n_bytes in all, by the shares of CLASSES."""
    rng.shuffle(documents)
    sizes = [len(document.encode()) for document in documents]
    chosen, total, limit, ceiling = [], 0, 0.0, float("inf")
    groups = []
    for least, share in CLASSES:
        groups.append(([i for i, size in enumerate(sizes) if least <= size < ceiling], share))
        ceiling = least
    for group, share in [*groups, *((group, 1.0) for group, _ in groups)]:  # the second time: what is still wanting
        limit = min(n_bytes, limit + share * n_bytes)
        while group and total < limit:
            place = group.pop()
            chosen.append(documents[place])
            total += sizes[place]
    return chosen


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--source", nargs=2, action="append", required=True, metavar=("FILE", "MB"))
    parser.add_argument("--most", type=int, default=110_000, help="most characters of a document (default: 110000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    everything = []
    for path, megabytes in arguments.source:
        documents = Path(path).read_text(encoding="utf-8").split("\0")
        chosen = choose([cut(text, arguments.most, rng) for text in documents], float(megabytes) * 1e6, rng)
        print(f"{path}: {len(chosen):,} documents, {sum(len(text.encode()) for text in chosen) / 1e6:.1f} MB")
        everything += chosen
    if not everything:
        sys.exit("no document is long enough")
    rng.shuffle(everything)
    arguments.out.write_text("\0".join(everything), encoding="utf-8")


if __name__ == "__main__":
    main()
