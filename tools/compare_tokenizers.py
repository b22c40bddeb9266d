#!/usr/bin/env python3
"""Compares `ssa tokenize` with the Hugging Face tokenizers library, token for token, and the time both take.

Makes mixed text from a seed (and from files named on the command line), trains one tokenizer for each family's pipeline
with the library, and encodes the text with both programs under four settings.

    pip install tokenizers==0.23.3 gguf
    python tools/compare_tokenizers.py --program build/ssa [--megabytes 20] [--gguf SMOLLM2.gguf] [FILE ...]
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"

import tokenizers  # noqa: E402  (reads the environment)
from mixed_text import make_documents  # noqa: E402
from tokenizer_families import FAMILIES, from_gguf, train  # noqa: E402

SETTINGS = [[], ["--parse-special"], ["--add-special"], ["--parse-special", "--add-special"]]


def write_rows(path, documents):
    path.write_text("".join(json.dumps({"text": d}) + "\n" for d in documents))


def run_program(program, folder, rows, flags=()):
    command = [program, "tokenize", str(folder), "--jsonl", str(rows), *flags]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout


def first_difference(document, ours, theirs):
    pairs = enumerate(zip(ours, theirs))
    at = next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))
    around = f"ours {ours[at : at + 6]}, theirs {theirs[at : at + 6]}"
    return f"  DIFFERS at token {at}: {around} in {document[:60]!r}..."


def compare(program, name, tokenizer, documents, folder):
    """Number of documents encoded differently."""
    n_all = 0
    rows = folder / "rows.jsonl"
    write_rows(rows, documents)
    for flags in SETTINGS:
        tokenizer.encode_special_tokens = "--parse-special" not in flags
        lines = run_program(program, folder, rows, flags).splitlines()
        n_differ = n_tokens = 0
        for document, line in zip(documents, lines, strict=True):
            ours = json.loads(line)["ids"]
            theirs = tokenizer.encode(document, add_special_tokens="--add-special" in flags).ids
            n_tokens += len(ours)
            if ours != theirs:
                n_differ += 1
                if n_differ <= 3:
                    print(first_difference(document, ours, theirs))
        n_all += n_differ
        setting = " ".join(flags) or "plain"
        print(f"{name:14} {setting:31} {n_tokens} tokens, {n_differ} documents differ", flush=True)
    return n_all


def best_of_three(work):
    times = []
    for _ in range(3):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def measure(program, name, tokenizer, documents, folder):
    """The time of encoding one document after the other, and of all of them as one. Ours is the whole program's, with
    reading JSON and printing ids, less that of an empty file; the library's is that of encoding alone."""
    tokenizer.encode_special_tokens = True
    nothing, rows = folder / "nothing.jsonl", folder / "rows.jsonl"
    write_rows(nothing, [])
    start_up = best_of_three(lambda: run_program(program, folder, nothing))
    for what, texts in (("documents", documents), ("one document", ["".join(documents)])):
        write_rows(rows, texts)
        megabytes = sum(len(t.encode()) for t in texts) / 1e6

        def encode():
            return [tokenizer.encode(t, add_special_tokens=False).ids for t in texts]

        def encode_fast():  # without offsets
            batch = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            return [encoding.ids for encoding in batch]

        ours = megabytes / (best_of_three(lambda: run_program(program, folder, rows)) - start_up)
        slow, fast = (megabytes / best_of_three(work) for work in (encode, encode_fast))
        print(
            f"{name:14} {what:12} {megabytes:5.1f} MB: ssa {ours:5.1f} MB/s, library {slow:4.1f} "
            f"(encode), {fast:4.1f} (encode_batch_fast): {ours / max(slow, fast):.1f}x",
            flush=True,
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="*", help="real text for the mix")
    parser.add_argument("--program", default="build/ssa")
    parser.add_argument("--megabytes", type=float, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--vocabulary", type=int, default=24000)
    parser.add_argument("--gguf", help="a GGUF file whose vocabulary is compared as well (SmolLM2's)")
    parser.add_argument("--speed", action="store_true", help="measure the time, too")
    options = parser.parse_args()
    prose = [pathlib.Path(path).read_text(errors="replace") for path in options.files]
    documents = make_documents(options.seed, options.megabytes, prose)
    size = sum(len(d.encode()) for d in documents) / 1e6
    print(f"{len(documents)} documents, {size:.1f} MB, tokenizers {tokenizers.__version__}")
    corpus = documents[9::3] + prose  # from 9 on: without the extreme ones
    families = {name: train(name, corpus, options.vocabulary) for name in FAMILIES}
    if options.gguf:
        families["SmolLM2 (GGUF)"] = from_gguf(options.gguf)
    timed = [text[i : i + 4000] for text in prose for i in range(0, len(text), 4000)]
    n_differ = 0
    for name, tokenizer in families.items():
        with tempfile.TemporaryDirectory() as folder:
            folder = pathlib.Path(folder)
            tokenizer.save(str(folder / "tokenizer.json"))
            n_differ += compare(options.program, name, tokenizer, documents, folder)
            if options.speed:
                measure(options.program, name, tokenizer, timed or documents, folder)
    sys.exit(n_differ != 0)


if __name__ == "__main__":
    main()
