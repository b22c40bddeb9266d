"""Tables and plots of the study's lines (sparse_sparse.py): Markdown on standard output, SVG files into --plots.

    python3 tools/studies/sparse_sparse_report.py runs/study/results.jsonl [more.jsonl.xz] --plots docs/studies/sparse_sparse > tables.md

Several seeds of a run stand as mean and range; plots show the first. Python's standard library alone.
"""

import argparse
import json
import lzma
import math
import pathlib

from line_plot import write_plot

NAMES = {"ssa": "Sparse Sparse, weight 10", "ssa1": "Sparse Sparse, weight 1", "ssa160": "Sparse Sparse, weight 160", "fullattn": "full only", "moba": "sparse only (MoBA-like)",
         "nsa": "NSA", "unaligned": "both streams, no alignment", "full_learns": "one-way: full learns",
         "sparse_learns": "one-way: sparse learns", "layer_streams": "stream drawn per layer"}


def read_lines(paths):
    """{millions: {run: [a line a seed]}}, runs in NAMES' order; the last line of a run and seed counts."""
    kept = {}
    for path in paths:
        text = lzma.open(path, "rt").read() if path.suffix == ".xz" else path.read_text()
        for row in text.splitlines():
            line = json.loads(row)
            kept[line["millions"], line["run"], line["seed"]] = line
    grouped = {}
    for (millions, run, _), line in sorted(kept.items(), key=lambda item: (item[0][0], list(NAMES).index(item[0][1]), item[0][2])):
        grouped.setdefault(millions, {}).setdefault(run, []).append(line)
    return grouped


def at(line, times=1, scaled=False):
    """What was measured at so many times the trained length; {} where that failed."""
    return next((each for each in line.get("lengths") or [] if each["times"] == times and bool(each["rope_scaling"]) == scaled), {})


def perplexity(loss):
    return math.exp(loss) if loss is not None and loss < 50 else None


def budget_losses(measured):
    return {each["blocks"]: each["sparse_loss"] for each in measured.get("budgets") or []}


def cell(values, digits):
    """Mean over seeds, and the range where there are several."""
    values = [value for value in values if value is not None]
    if not values:
        return "–"
    mean = f"{sum(values) / len(values):.{digits}f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.{digits}f}–{max(values):.{digits}f})"


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def with_reference(runs):
    """Full-mode loss of full-only training at the same number of tokens, mean over seeds: what capability gaps count from."""
    losses = [at(line).get("full_loss") for line in runs.get("fullattn", [])]
    losses = [loss for loss in losses if loss is not None]
    return sum(losses) / len(losses) if losses else None


def gap_table(runs):
    reference = with_reference(runs)
    columns = [("full ppl", 3, lambda m: perplexity(m.get("full_loss"))), ("sparse ppl", 3, lambda m: perplexity(m.get("sparse_loss"))),
               ("attention gap", 4, lambda m: m.get("attention_gap")),
               ("capability gap", 4, lambda m: m["full_loss"] - reference if reference is not None and "full_loss" in m else None),
               ("KL full, sparse", 4, lambda m: m.get("kl_full_to_sparse"))]
    rows = [[NAMES[run]] + [cell([value(at(line)) for line in lines], digits) for _, digits, value in columns] for run, lines in runs.items()]
    return table(["run"] + [name for name, _, _ in columns], rows)


def measure_table(runs):
    columns = [("sparsity", 4), ("dropped", 4), ("entropy", 3), ("distance", 4), ("ratio", 4), ("ratio_max", 3), ("keys_without_gradient", 4)]
    rows = []
    for run, lines in runs.items():
        means = [at(line).get("mean", {}) for line in lines]
        violated = sum(at(line).get("bound", {}).get("violated", 0) for line in lines)
        measured = sum(at(line).get("bound", {}).get("measured", 0) for line in lines)
        rows.append([NAMES[run]] + [cell([mean.get(name) for mean in means], digits) for name, digits in columns] + [f"{violated} of {measured}"])
    heads = ["sparsity", "dropped", "entropy", "distance", "distance / bound", "largest", "keys without gradient", "bound violated"]
    return table(["run"] + heads, rows)


def budget_table(runs, times, scaled):
    budgets = sorted({b for lines in runs.values() for line in lines for b in budget_losses(at(line, times, scaled))})
    rows = []
    for run, lines in runs.items():
        measured = [at(line, times, scaled) for line in lines]
        by_budget = [cell([perplexity(budget_losses(m).get(b)) for m in measured], 3) for b in budgets]
        rows.append([NAMES[run], cell([perplexity(m.get("full_loss")) for m in measured], 3)] + by_budget)
    return table(["run", "full"] + [f"{b} blocks" for b in budgets], rows)


def needle_table(runs, length):
    """Share of answers whose every token is the likeliest, and nats a token of the answer."""
    def asked(line, method):
        found = next((each for each in line.get("needles") or [] if each["length"] == length), {"methods": []})
        return next((row for row in found["methods"] if row["method"] == method), {})

    methods = list(dict.fromkeys(row["method"] for lines in runs.values() for line in lines for each in line.get("needles") or []
                                 if each["length"] == length for row in each["methods"]))
    value = lambda line, method, metric: asked(line, method).get(metric, {}).get("mean")
    rows = [[NAMES[run]] + [f"{cell([value(line, method, 'all_correct') for line in lines], 2)} / "
                            f"{cell([value(line, method, 'nll') for line in lines], 3)}" for method in methods]
            for run, lines in runs.items()]
    return table(["run"] + methods, rows)


def training_table(runs):
    rows = []
    for run, lines in runs.items():
        speeds = [sorted(filter(None, line.get("log", {}).get("tokens_per_second", []))) for line in lines]
        rows.append([NAMES[run], ", ".join(str(line["seed"]) for line in lines), str(lines[0]["steps"]),
                     cell([line.get("train_seconds") for line in lines], 0), cell([s[len(s) // 2] if s else None for s in speeds], 0)])
    return table(["run", "seeds", "steps", "seconds", "tokens a second"], rows)


def plot_all(runs, millions, folder):
    labels = [NAMES[run] for run in runs]
    first = [lines[0] for lines in runs.values()]

    def by_layer(line, measure):
        layers = at(line).get("layers") or []
        return [(layer["layer"], sum(head[measure] for head in layer["heads"]) / len(layer["heads"])) for layer in layers]

    budgets = [sorted((b, perplexity(loss)) for b, loss in budget_losses(at(line)).items()) for line in first]
    full = [(place, perplexity(at(line).get("full_loss"))) for place, line in enumerate(first)]
    write_plot(folder / f"budgets-{millions:g}M.svg",
               [{"title": "perplexity (dotted: full attention)", "x_name": "blocks a query", "log_x": True,
                 "lines": list(zip(labels, budgets)), "rules": [(place, y) for place, y in full if y is not None]}], labels)
    write_plot(folder / f"layers-{millions:g}M.svg",
               [{"title": title, "x_name": "layer", "lines": [(label, by_layer(line, measure)) for label, line in zip(labels, first)]}
                for measure, title in (("sparsity", "attention sparsity"), ("ratio", "distance / bound"))], labels)
    curves = [[(step, ce) for step, ce in zip(line.get("log", {}).get("step", []), line.get("log", {}).get("ce", [])) if ce] for line in first]
    write_plot(folder / f"training-{millions:g}M.svg",
               [{"title": "cross entropy", "x_name": "step", "lines": list(zip(labels, curves))}], labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--plots", type=pathlib.Path)
    args = parser.parse_args()
    for millions, runs in read_lines(args.results).items():
        print(f"## {millions:g} million tokens\n\n{training_table(runs)}\n\n### Losses and gaps\n\n{gap_table(runs)}\n")
        print(f"### What attention keeps, full mode\n\n{measure_table(runs)}\n")
        for times in (1, 2, 4):
            for scaled in (False, True):
                if any(at(line, times, scaled) for lines in runs.values() for line in lines):
                    print(f"### Perplexity at {times}x the trained length{', positions scaled' if scaled else ''}\n\n{budget_table(runs, times, scaled)}\n")
        lengths = sorted({each["length"] for lines in runs.values() for line in lines for each in line.get("needles") or []})
        for length in lengths:
            print(f"### Needles in {length} tokens\n\n{needle_table(runs, length)}\n")
        if args.plots:
            plot_all(runs, millions, args.plots)


if __name__ == "__main__":
    main()
