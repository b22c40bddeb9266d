"""Perplexity of training-free sparse decode: the last 512 of 4,096 tokens, by pivot and budget, against full attention.

Usage: python3 tools/pivot_perplexity.py PROGRAM MODEL WINDOWS.json [--device cuda] [--jobs 8] [--out FILE.json]

WINDOWS.json is a list of lists of 4,096 token ids (`ssa tokenize MODEL` of a text, cut). The heads of a group unfold the union of their
chunks, so budget T means at most T tokens a key/value head; `recent` chooses alike in every head, and gets G * T so that it reads T tokens too.
Differences come with a 95% interval of a bootstrap over windows.
"""

import argparse
import concurrent.futures
import json
import math
import os
import pathlib
import random
import subprocess
import tempfile

from safetensors import safe_open

N_SCORED = 512
BUDGETS = (256, 512, 1024)


def nll(args, window, flags):
    """Mean negative log-likelihood of the last tokens, in nats."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        ids, out = f"{folder}/ids.json", f"{folder}/out.safetensors"
        pathlib.Path(ids).write_text(json.dumps(window))
        subprocess.run([args.program, "logits", args.model, "--ids", ids, "--out", out, "--device", args.device, "-t", "2",
                        "--decode-from", str(len(window) - N_SCORED), "--decode-piece", "64", "--dtype", args.dtype, *flags], check=True, stderr=subprocess.DEVNULL)
        with safe_open(out, "pt") as file:
            rows = file.get_slice("logits")[len(window) - N_SCORED - 1:len(window) - 1]
    targets = window[len(window) - N_SCORED:]
    return -rows.double().log_softmax(-1)[range(N_SCORED), targets].mean().item()


def interval(differences, rounds=10000):
    draw = random.Random(0)
    means = sorted(sum(draw.choices(differences, k=len(differences))) / len(differences) for _ in range(rounds))
    return means[int(0.025 * rounds)], means[int(0.975 * rounds)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("windows")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--group", type=int, default=3, help="query heads a key/value head")
    parser.add_argument("--out")
    args = parser.parse_args()
    windows = json.loads(pathlib.Path(args.windows).read_text())
    runs = {"full": ["--attention", "full"]}
    for budget in BUDGETS:
        for pivot in ("mean", "quest", "recent"):
            places = budget * (args.group if pivot == "recent" else 1)
            runs[f"{pivot} {budget}"] = ["--attention", "ssa", "--pivot", pivot, "--budget", str(places)]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        waiting = {name: [pool.submit(nll, args, window, flags) for window in windows] for name, flags in runs.items()}
        scores = {name: [each.result() for each in row] for name, row in waiting.items()}
    print(f"{len(windows)} windows\n| pivot, budget | perplexity | nats above full | nats above recent, 95% interval |\n|---|---|---|---|")
    for name, row in scores.items():
        mean = sum(row) / len(row)
        above = mean - sum(scores["full"]) / len(row)
        against = ""
        if name.split()[0] in ("mean", "quest"):
            differences = [a - b for a, b in zip(row, scores["recent " + name.split()[1]])]
            low, high = interval(differences)
            against = f"{sum(differences) / len(differences):+.4f} ({low:+.4f} ... {high:+.4f})"
        print(f"| {name} | {math.exp(mean):.3f} | {above:+.4f} | {against} |", flush=True)
    if args.out:
        pathlib.Path(args.out).write_text(json.dumps(scores))


if __name__ == "__main__":
    main()
