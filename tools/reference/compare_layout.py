"""Compares `ssa layout` with the reference on random cases: ids, positions, levels, chunks, mask.

Usage: python compare_layout.py [--program ../../build/ssa] [--cases 1000] [--seed 31] [--only N]
                                [--jobs 2]
Needs numpy alone. Exit status 1 if any case differs; every failure prints its number, the command
and the first difference, and leaves its files in the folder named at the end.

A case whose mask uses another sink count than its layout (a negative one, say) is run twice: laid
out with the one, then as laid ids with the other.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
import tempfile

from cases import BOS_ID, layout_cases, layout_of
from mask import GistMask
from program import ProgramFailed, first_difference, run, write_json
from tensor_file import read_tensors
from tiny_models import TinyTokenizer, write_model


def adopt_tokenizer(case, tokenizer, generator):
    """The case with ids of the tokenizer, each token opening a word or not as the case wants it."""
    pools = {flag: tokenizer.raw_ids(flag == "1") for flag in "01"}
    gist_ids = dict(zip(case["gist_ids"], tokenizer.gist_ids))

    def adopted(token, flag):
        if token in gist_ids:
            return gist_ids[token]
        if token == BOS_ID:
            return tokenizer.bos_id
        return generator.choice(pools[flag])

    flags = case["boundary"] or ["0" * len(piece) for piece in case["pieces"]]
    pieces = []
    for piece, piece_flags in zip(case["pieces"], flags):
        pieces.append([adopted(token, flag) for token, flag in zip(piece, piece_flags)])
    changed = dict(case, pieces=pieces, gist_ids=tokenizer.gist_ids)
    changed["suffix"] = [adopted(token, "0") for token in case["suffix"]]
    if case["bos"] is not None:
        changed["bos"] = tokenizer.bos_id
        if case["boundary"] is not None:  # the text of BOS decides, not the case
            changed["boundary"] = [
                "0" if piece == [tokenizer.bos_id] else piece_flags
                for piece, piece_flags in zip(pieces, flags)
            ]
    return changed


def input_file(case, generator):
    """One of the three forms that `--ids` takes, whichever can say it."""
    pieces, suffix = case["pieces"], case["suffix"]
    forms = [{"pieces": pieces, "suffix": suffix}]
    if len(pieces) == 1:
        forms.append({"prefix": pieces[0], "suffix": suffix})
        if not suffix:
            forms.append(pieces[0])
            forms.append({"ids": pieces[0]})
    return generator.choice(forms)


class Comparison:
    def __init__(self, program, folder):
        self.program = program
        self.folder = folder
        self.tokenizer = TinyTokenizer()
        self.model = os.path.join(folder, "model")
        write_model(
            self.model, "llama", self.tokenizer.size, seed=1, bos_token_id=self.tokenizer.bos_id
        )
        self.tokenizer.write(self.model)

    def command(self, name, content, case, sink, flags):
        """Writes the input file; the command without --mask."""
        path = os.path.join(self.folder, name + ".json")
        write_json(path, content)
        chunk = ",".join(map(str, case["chunk"]))
        command = [self.program, "layout", self.model, "--ids", path, "--chunk", chunk]
        # one word, so that no parser takes a negative number for a flag
        return command + [f"--sink={sink}", "--previous-chunks", str(case["previous"])] + flags

    def compare(self, numbered_case):
        """(the case's number, the case as it was run, lines about what differs, the last command)"""
        number, case = numbered_case
        # of its own, so that case N is the same whether it is run alone or not
        generator = random.Random(number)
        case = adopt_tokenizer(case, self.tokenizer, generator)
        return number, case, *self.differences(number, case, input_file(case, generator))

    def differences(self, number, case, content):
        """(lines about what differs, the last command)."""
        layout = layout_of(case)
        name = f"case{number}"
        flags = ["--laid"] if case["laid"] else []
        if case["boundary"] is None:
            flags.append("--plain-chunks")
        mask_path = os.path.join(self.folder, name + ".safetensors")
        same_sink = case["sink"] == case["mask_sink"]
        command = self.command(name, content, case, case["sink"], flags)
        lines = []
        try:
            if same_sink:
                command += ["--mask", mask_path]
            lines += layout_differences(layout, json.loads(run(command)))
            if not same_sink:
                laid = {"ids": layout.ids}
                command = self.command(
                    name + "laid", laid, case, case["mask_sink"], ["--laid", "--plain-chunks"]
                )
                command += ["--mask", mask_path]
                lines += layout_differences(layout, json.loads(run(command)))
            lines += mask_differences(case, layout, read_tensors(mask_path)["mask"])
        except ProgramFailed as failure:
            if layout.ids or "status 1:" not in str(failure):  # an empty input may be refused
                lines.append(str(failure))
        except (KeyError, ValueError, OSError) as failure:
            lines.append(f"unreadable answer: {failure!r}")
        return lines, command


def layout_differences(layout, answer):
    parts = [
        first_difference("ids", layout.ids, answer["ids"]),
        first_difference("positions", layout.positions, answer["positions"]),
        first_difference("levels", layout.levels, answer["levels"]),
        first_difference("chunks", layout.chunks, answer["chunks"]),
    ]
    return [part for part in parts if part]


def mask_differences(case, layout, mask):
    dense = GistMask(layout.levels, case["chunk"], case["mask_sink"], case["previous"]).dense()
    n = len(layout.ids)
    if mask.shape != (n, n):
        return [f"mask has shape {list(mask.shape)}, expected {[n, n]}"]
    wrong = [(q, k) for q in range(n) for k in range(n) if bool(mask[q, k]) != dense[q][k]]
    if not wrong:
        return []
    q, k = wrong[0]
    drawing = "".join("." if level < 0 else str(level) for level in layout.levels)
    return [
        f"mask: {len(wrong)} of {n * n} differ, first query {q}, key {k}: "
        f"{bool(mask[q, k])}, the reference says {dense[q][k]}; {drawing}"
    ]


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(here, "../../build/ssa"))
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=31)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument(
        "--stop-after", type=int, default=10, help="failures to show before stopping"
    )
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="cases run at a time")
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="compare_layout_")
    comparison = Comparison(arguments.program, folder)
    cases = list(enumerate(layout_cases(arguments.cases, arguments.seed)))
    if arguments.only is not None:
        cases = [cases[arguments.only]]
    n_run = n_failed = 0
    with multiprocessing.Pool(arguments.jobs) as pool:
        for number, case, lines, command in pool.imap(comparison.compare, cases, chunksize=4):
            n_run += 1
            if not lines:
                continue
            n_failed += 1
            print(f"case {number} (of seed {arguments.seed}) differs:", *lines, sep="\n    ")
            print("    case:", json.dumps(case))
            print("    command:", " ".join(command), flush=True)
            if n_failed >= arguments.stop_after:
                break
    print(f"{n_run} cases, {n_failed} differ; files in {folder}")
    sys.exit(n_failed > 0)


if __name__ == "__main__":
    main()
