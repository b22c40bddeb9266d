"""`ssa train` against a training loop in plain PyTorch: the same weights, rows and schedule, in float32 on the CPU; losses side by side.

    python3 tools/training/compare_training.py --ssa build/ssa --tokenizer FOLDER --dataset FOLDER [--cpt 1 --lm 0 ...]

FOLDER of --tokenizer: tokenizer.json and a config.json with "gist" (any size of model: a small one is made here). Rows come from
`ssa data show --json`; the gist mask, objectives, AdamW and schedule are written here, from the papers and LibTorch's documentation.
Exits with 1 where losses differ by more than --tolerance. Wants torch and safetensors.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import torch
import torch.nn.functional as F

from plain_llama import Llama
from side_by_side import make_optimizer, print_side_by_side, read_rows, run_ssa, save_model, take_step

SINK, PREVIOUS = 3, 1


def gist_mask(levels, sink=SINK, previous=PREVIOUS):
    """Who sees whom, [n, n]: the rules of arXiv 2604.20920 one by one; levels[t] is -1 for raw tokens."""
    level = torch.tensor(levels)
    n, top = len(levels), max(levels)
    q, k = torch.arange(n)[:, None], torch.arange(n)[None, :]
    causal = k <= q
    if top < 0:
        return causal
    # chunk(i)[t]: gists of level i strictly before t
    chunk = [F.pad((level == i).long().cumsum(0), (1, 0))[:n] for i in range(top + 1)]
    apart = [c[:, None] - c[None, :] for c in chunk]
    lq, lk = level[:, None], level[None, :]
    seen = (lk == top) | (k < sink)
    seen = seen | ((lq < 1) & (apart[0] >= 0) & (apart[0] <= previous))
    for i in range(top):  # a lower gist, until a higher one has come
        higher = (level > i).long().cumsum(0)
        seen = seen | ((lk == i) & (higher[:, None] == higher[None, :]))
    for i in range(1, top + 1):
        child = lk == i - 1
        seen = seen | ((lq == i) & child & (apart[i] == 0))
        seen = seen | ((lq <= i) & child & (apart[i] >= 1) & (apart[i] <= previous))
    return seen & causal


class Sequence:
    """One sequence of a row, and where its raw tokens are."""

    def __init__(self, row):
        self.levels = row["levels"]
        self.ids, self.positions = torch.tensor(row["ids"])[None], torch.tensor(row["positions"])[None]
        self.mask = gist_mask(self.levels)
        self.raw = torch.tensor([t for t, level in enumerate(self.levels) if level < 0])
        raw_before = torch.tensor([level < 0 for level in self.levels]).long().cumsum(0)
        targets = torch.tensor(row["targets"])
        self.rows = (targets >= 0).nonzero()[:, 0]
        self.targets = targets[self.rows]
        self.raw_rows = raw_before[self.rows] - 1
        top = max(self.levels)
        prefix_end = max((t + 1 for t, level in enumerate(self.levels) if level == top), default=0) if top >= 0 else 0
        self.in_suffix = self.rows + 1 >= prefix_end

    def raw_hidden(self, model):
        return model(self.ids[:, self.raw], torch.arange(len(self.raw))[None])[0]

    def gist_hidden(self, model):
        return model(self.ids, self.positions, self.mask)[0]


def losses_of(model, sequence, weights):
    """Sums of the objectives asked for."""
    sums = {}
    raw = sequence.raw_hidden(model) if weights["lm"] > 0 else None
    gist = sequence.gist_hidden(model) if weights["cpt"] > 0 or weights["distill"] > 0 else None
    entropy = lambda hidden: F.cross_entropy(model.logits(hidden), sequence.targets, reduction="sum")
    if weights["lm"] > 0:
        sums["lm"] = entropy(raw[sequence.raw_rows])
    if weights["cpt"] > 0:
        sums["cpt"] = entropy(gist[sequence.rows])
    if weights["distill"] > 0:
        with torch.no_grad():
            teacher = model.logits(sequence.raw_hidden(model)[sequence.raw_rows[sequence.in_suffix]]).log_softmax(-1)
        student = model.logits(gist[sequence.rows[sequence.in_suffix]]).log_softmax(-1)
        sums["distill"] = F.kl_div(student, teacher, log_target=True, reduction="sum")
    return sums


def train(model, rows, weights, args):
    """{"loss"} of every step."""
    optimizer = make_optimizer(model, args)
    losses = []
    for step in range(1, args.steps + 1):
        batch = [Sequence(s) for row in rows[(step - 1) * args.batch:step * args.batch] for s in row]
        n_targets = sum(len(s.targets) for s in batch)
        n_suffix = sum(int(s.in_suffix.sum()) for s in batch)
        divisors = {"lm": n_targets, "cpt": n_targets, "distill": n_suffix}
        optimizer.zero_grad()
        total = 0.0
        for sequence in batch:
            loss = sum(weights[name] * value / divisors[name] for name, value in losses_of(model, sequence, weights).items())
            loss.backward()
            total += loss.item()
        take_step(model, optimizer, args, step, args.max_norm)
        losses.append({"loss": total})
    return losses


def make_checkpoint(source, folder):
    """A random model of 3 layers beside the source's tokenizer; returns it with its configuration."""
    config = json.loads((source / "config.json").read_text())
    config.update(hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=6, num_key_value_heads=2, head_dim=16,
                  tie_word_embeddings=True, dtype="float32")
    torch.manual_seed(0)
    model = Llama(config)
    save_model(model, config, source, folder)
    return model


def row_flags(args):
    chunks = [flag for chunk in args.chunk for flag in ("--chunk", chunk)]
    return ["--suffix-min", args.suffix_min, "--suffix-max", args.suffix_max, "--sink", SINK, "--loss-on", args.loss_on, *chunks]


def recipe_of(args, model, folder, weights):
    chunks = ", ".join(f'"{chunk}"' for chunk in args.chunk)
    objective = "\n".join(f"{name} = {float(weight)}" for name, weight in weights.items() if weight > 0)
    return f"""
[job]
output = "{folder}/out"
seed = {args.seed}
[model]
path = "{model}"
dtype = "f32"
device = "cpu"
[data]
sources = ["{args.dataset}"]
seq_len = {args.seq_len}
suffix_min = {args.suffix_min}
suffix_max = {args.suffix_max}
loss_on = "{args.loss_on}"
[gist]
chunks = [{chunks}]
sink = {SINK}
previous_chunks = {PREVIOUS}
[objective]
{objective}
[optimizer]
lr = {args.lr}
[lr_scheduler]
warmup_steps = {args.warmup}
[training]
steps = {args.steps}
global_batch_size = {args.batch}
micro_batch_size = {max(1, args.batch // 2)}
max_norm = {args.max_norm}
[metrics]
log_interval = 1
tensorboard = false
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ssa", default="build/ssa")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--dataset", required=True)
    for name in ("cpt", "lm", "distill"):
        parser.add_argument(f"--{name}", type=float, default=0.0, help="weight of the objective")
    parser.add_argument("--chunk", action="append", help="chunk setting; several are drawn row by row (default: 8 and 4-4)")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seq-len", type=int, default=256)
    parser.add_argument("--suffix-min", type=int, default=32)
    parser.add_argument("--suffix-max", type=int, default=64)
    parser.add_argument("--loss-on", default="all")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--max-norm", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-4)
    args = parser.parse_args()
    args.chunk = args.chunk or ["8", "4-4"]
    weights = {"lm": args.lm, "cpt": args.cpt, "distill": args.distill}
    if not any(weights.values()):
        weights["cpt"] = 1.0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = make_checkpoint(args.tokenizer, folder / "model")
        ours = run_ssa(args, folder, recipe_of(args, folder / "model", folder, weights), ["loss"])
        theirs = train(model, read_rows(args, folder / "model", row_flags(args)), weights, args)
    return print_side_by_side(ours, theirs, args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
