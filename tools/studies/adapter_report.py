"""Tables of what `adapter.py` measured: Markdown on standard output, the same numbers as JSON into --json.

    python3 tools/studies/adapter_report.py runs/adapter/items.jsonl.xz --json tables.json > tables.md

Means stand with 95% intervals: of cells by the spread over items (1.96 standard errors; of ratios of sums by linearisation), of
differences by percentile bootstrap over the items that both sides have, drawn in pairs. Python's standard library alone.
"""

import argparse
import array
import dataclasses
import functools
import json
import lzma
import math
import operator
import pathlib
import random

MODELS = ["base", "full-cpt", "full-sft", "ssa-cpt", "ssa-sft"]
STAGES = [("ssa-cpt", "full-cpt"), ("ssa-sft", "full-sft")]  # a gist adapter, and what full attention makes of the same stage
REFERENCE = "full-cpt"  # its full mode and its text alone are what kept context gain counts from
SSA = "ssa:8@8"
UNFOLDING = [SSA, "ssa:16@16", "ssa:32@32", "ssa:16@4-4", "ssa:32@8-4"]
PIVOTS = ["quest", "mean", "recent", "random"]
UNTRAINED = [*PIVOTS, "streaming", "h2o"]
# columns of the short tables: what stands there of a gist adapter, and of the others
COLUMNS = {"full": ("full", "full"), "gists": ("gists", None), "SSA 8": (SSA, None), "SSA 16": ("ssa:16@16", None), "SSA 32": ("ssa:32@32", None),
           "H-SSA 16": ("ssa:16@4-4", None), "H-SSA 32": ("ssa:32@8-4", None),
           **{f"{name} 8": (f"ssa:{name}:8@8" if name in PIVOTS else None, f"{name}:8@8") for name in UNTRAINED}}
TITLES = {"contains": "holds a gold answer", "all_correct": "answer right", "exact": "exact", "f1": "F1", "log_likelihood": "log-likelihood",
          "kept_gain": "kept gain", "own_gain": "kept gain, own", "evidence_recall": "evidence recall", "attended": "keys"}
METRICS = {"qa": ["contains", "f1", "exact", "log_likelihood", "evidence_recall", "attended"], "ppl": ["kept_gain", "own_gain", "log_likelihood", "attended"],
           "niah": ["all_correct", "contains", "log_likelihood", "evidence_recall", "attended"]}
SHORT = {"qa": ["contains", "log_likelihood"], "niah": ["all_correct", "log_likelihood"], "ppl": ["kept_gain", "own_gain", "log_likelihood"]}
COMPARED = {"qa": ["contains", "f1", "log_likelihood"], "niah": ["all_correct", "log_likelihood"], "ppl": ["kept_gain", "log_likelihood"]}
DIGITS = {"attended": 1}


# -- reading -----------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Study:
    """tasks: {set: task}; rows: {(set, model, method): line with its items' ids}, in the file's order."""

    tasks: dict
    rows: dict
    reference: str = REFERENCE

    def of(self, name):
        return [key for key in self.rows if key[0] == name]

    def models(self, name):
        found = dict.fromkeys(model for _, model, _ in self.of(name))
        return sorted(found, key=lambda model: MODELS.index(model) if model in MODELS else len(MODELS))

    def has_gists(self, name, model):
        return (name, model, "gists") in self.rows or (name, model, "ssa:16@16") in self.rows


def read_study(paths, reference=REFERENCE):
    study = Study({}, {}, reference)
    for path in paths:
        text = lzma.open(path, "rt", encoding="utf-8").read() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
        ids = {}
        for line in map(json.loads, text.splitlines()):
            if "method" not in line:
                study.tasks[line["set"]] = {"kv": "niah"}.get(line["task"], line["task"])
                ids[line["set"]] = line["items"]
                continue
            line.setdefault("items", ids[line["set"]])
            study.rows[line["set"], line["model"], line["method"]] = line
    return study


def gain_pairs(study, key, reference):
    """(NLL alone - NLL method, NLL alone - NLL full), both latter of the reference model."""
    name, _, _ = key
    rows = [study.rows.get(each) for each in (key, (name, reference, "alone"), (name, reference, "full"))]
    if any(row is None or "gain_nll" not in row for row in rows):
        return {}
    own, alone, full = (dict(zip(row["items"], row["gain_nll"])) for row in rows)
    shared = [item for item in own if None not in (own[item], alone.get(item), full.get(item))]
    return {item: (alone[item] - own[item], alone[item] - full[item]) for item in shared}


def pairs_of(study, key, metric):
    """{item: (above, below)}; the metric is the sum above by the sum below. Without items where that is not known."""
    row = study.rows.get(key)
    if row is None:
        return {}
    if metric in ("kept_gain", "own_gain"):
        return gain_pairs(study, key, study.reference if metric == "kept_gain" else key[1])
    if metric == "log_likelihood":
        values = zip(row["items"], row["nll"], row["n_scored"])
        return {item: (-nll * n, n) for item, nll, n in values if nll is not None}
    return {item: (value, 1) for item, value in zip(row["items"], row.get(metric, [])) if value is not None}


# -- arithmetic --------------------------------------------------------------------------------------------------------


def interval(pairs):
    """{mean, low, high, n} of a ratio of sums over items; None without items."""
    above, below = sum(a for a, _ in pairs), sum(b for _, b in pairs)
    n = len(pairs)
    if n == 0 or below == 0:
        return None
    value = above / below
    spread = sum((a - value * b) ** 2 for a, b in pairs)
    half = 1.96 * math.sqrt(spread * n / (n - 1)) / abs(below) if n > 1 else math.nan
    return {"mean": value, "low": value - half, "high": value + half, "n": n}


def quantile(ordered, share):
    """Between neighbours by proportion."""
    place = share * (len(ordered) - 1)
    left = int(place)
    right = min(left + 1, len(ordered) - 1)
    return ordered[left] + (place - left) * (ordered[right] - ordered[left])


class Bootstrap:
    """The same draws for all series of as many items; a series' sums are taken once."""

    def __init__(self, rounds=4000, seed=1):
        self.rounds, self.seed = rounds, seed
        self.draws = functools.lru_cache(maxsize=8)(self.draw)
        self.sums = functools.lru_cache(maxsize=1024)(self.sum_draws)

    def draw(self, n):
        generator = random.Random(self.seed)
        return [operator.itemgetter(*generator.choices(range(n), k=n)) for _ in range(self.rounds)]

    def sum_draws(self, values):
        if len(values) == 1:
            return array.array("d", values * self.rounds)
        if len(set(values)) == 1:
            return array.array("d", [sum(values)] * self.rounds)
        return array.array("d", [sum(pick(values)) for pick in self.draws(len(values))])

    def ratios(self, pairs):
        """The ratio in every round; None where nothing is below."""
        above, below = (self.sums(side) for side in zip(*pairs))
        return [a / b if b else None for a, b in zip(above, below)]

    def difference(self, first, second):
        """{mean, low, high, n} of first - second, each {item: (above, below)}, over the items of both; None without any."""
        shared = [item for item in first if item in second]
        mine, other = [first[item] for item in shared], [second[item] for item in shared]
        ends = interval(mine), interval(other)
        if None in ends:
            return None
        rounds = sorted(a - b for a, b in zip(self.ratios(mine), self.ratios(other)) if a is not None and b is not None)
        value = ends[0]["mean"] - ends[1]["mean"]
        return {"mean": value, "low": quantile(rounds, 0.025) if rounds else math.nan, "high": quantile(rounds, 0.975) if rounds else math.nan,
                "n": len(shared)}


# -- what is compared --------------------------------------------------------------------------------------------------


def comparisons():
    """[(title, (model, method), (model, method))]"""
    found = []
    for gists, full in STAGES:
        own = ["gists", *(f"ssa:{pivot}:8@8" for pivot in PIVOTS)]
        found += [("SSA minus what else its gists allow", (gists, SSA), (gists, method)) for method in own]
    tuned, full = STAGES[-1]
    for model in (full, "base"):
        found += [("SSA minus selection without training, equal budget", (tuned, SSA), (model, f"{name}:8@8")) for name in UNTRAINED]
    for gists, full in STAGES:
        found += [("SSA minus full attention after each stage", (gists, method), (full, "full")) for method in UNFOLDING]
    for gists, _ in STAGES:
        found += [("SSA minus its own full attention", (gists, method), (gists, "full")) for method in UNFOLDING]
    return found


def cells(study):
    """[{set, model, method, budget, METRIC: interval}]"""
    found = []
    for (name, model, method), row in study.rows.items():
        measured = {metric: interval(list(pairs_of(study, (name, model, method), metric).values())) for metric in METRICS[study.tasks[name]]}
        found.append({"set": name, "model": model, "method": method, "budget": row.get("budget", ""),
                      **{metric: each for metric, each in measured.items() if each is not None}})
    return found


def differences(study, bootstrap):
    found = []
    for name, task in study.tasks.items():
        for metric in COMPARED[task]:
            for title, first, second in comparisons():
                each = bootstrap.difference(pairs_of(study, (name, *first), metric), pairs_of(study, (name, *second), metric))
                if each is not None:
                    found.append({"title": title, "set": name, "metric": metric, "first": first, "second": second, **each})
    return found


# -- tables ------------------------------------------------------------------------------------------------------------


def number(value, digits=3, sign=""):
    return "–" if value is None or math.isnan(value) else f"{value:{sign}.{digits}f}"


def cell(each, metric):
    if each is None:
        return "–"
    digits = DIGITS.get(metric, 3)
    return f"{number(each['mean'], digits)} [{number(each['low'], digits)}, {number(each['high'], digits)}]"


def difference_cell(each):
    """Bold where the interval leaves 0 out."""
    if each is None:
        return "–"
    text = f"{number(each['mean'], 3, '+')} [{number(each['low'], 3, '+')}, {number(each['high'], 3, '+')}]"
    return f"**{text}**" if each["low"] > 0 or each["high"] < 0 else text


def table(heads, rows):
    lines = ["| " + " | ".join(heads) + " |", "| " + "--- | " * len(heads)]
    return "\n".join([lines[0], lines[1].rstrip()] + ["| " + " | ".join(row) + " |" for row in rows])


def short_table(study, by_key, name, metric):
    """Rows: models; columns: methods. Columns without any number are left out."""
    rows = []
    for model in study.models(name):
        methods = [of_gists if study.has_gists(name, model) else of_full for of_gists, of_full in COLUMNS.values()]
        rows.append([model] + [cell(by_key.get((name, model, method), {}).get(metric), metric) for method in methods])
    heads = ["model", *COLUMNS]
    shown = [i for i in range(len(heads)) if any(row[i] != "–" for row in rows)]
    return table([heads[i] for i in shown], [[row[i] for i in shown] for row in rows])


def long_table(study, by_key, name):
    metrics = METRICS[study.tasks[name]]
    keys = [(name, model, method) for model in study.models(name) for key in study.of(name) if key[1] == model for method in [key[2]]]
    rows = [[model, method] + [cell(by_key[name, model, method].get(metric), metric) for metric in metrics] for name, model, method in keys]
    return table(["model", "method"] + [TITLES[metric] for metric in metrics], rows)


def difference_table(found, task_sets, metric):
    """A row a comparison, a column a set."""
    of_metric = {(each["set"], each["first"], each["second"]): each for each in found if each["metric"] == metric}
    sets = [name for name in task_sets if any(key[0] == name for key in of_metric)]
    rows, title = [], ""
    for group, first, second in comparisons():
        values = [of_metric.get((name, first, second)) for name in sets]
        if any(values):
            rows += [[f"*{group}*"] + [""] * len(sets)] if group != title else []
            rows.append([f"{' '.join(first)} – {' '.join(second)}"] + [difference_cell(each) for each in values])
            title = group
    return table(["", *sets], rows)


def write_tables(study, measured, found, bootstrap):
    by_key = {(each["set"], each["model"], each["method"]): each for each in measured}
    print("Cells: mean [95% interval]. Log-likelihood: nats a token of the gold answer, or of the text behind the prefix. Keys: what a query and "
          "key/value head attends, layer 0 left out. Quest, mean, recent and random stand for a gist adapter's chunks chosen by that pivot, "
          f"for other models' chunks under full prefill. Kept gain: against {study.reference} with full attention; own: against the model itself.\n")
    for name, task in study.tasks.items():
        if study.of(name):
            n = max(len(study.rows[key]["items"]) for key in study.of(name))
            print(f"## {name}\n\n{n} items\n")
            known = {metric for each in measured if each["set"] == name for metric in each}
            for metric in (metric for metric in SHORT[task] if metric in known):
                print(f"{TITLES[metric]}\n\n{short_table(study, by_key, name, metric)}\n")
            print(f"<details><summary>All</summary>\n\n{long_table(study, by_key, name)}\n\n</details>\n")
    if found:
        print(f"## Differences\n\nPaired, {bootstrap.rounds:,} rounds of the bootstrap over items, seed {bootstrap.seed}; bold: the interval leaves 0 out.\n")
    for task in dict.fromkeys(study.tasks.values()):
        sets = [name for name, of_set in study.tasks.items() if of_set == task]
        for metric in COMPARED[task]:
            if any(each["metric"] == metric and each["set"] in sets for each in found):
                print(f"### {TITLES[metric]}: {', '.join(sets)}\n\n{difference_table([e for e in found if e['set'] in sets], sets, metric)}\n")


def rounded(value):
    if isinstance(value, float):
        return None if math.isnan(value) else round(value, 5)
    return {key: rounded(each) for key, each in value.items()} if isinstance(value, dict) else value


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("items", nargs="+", type=pathlib.Path, help="items.jsonl or .xz of adapter.py; a later file's rows count")
    parser.add_argument("--json", type=pathlib.Path, help="the numbers: cells and differences")
    parser.add_argument("--reference", default=REFERENCE, help="model whose full attention kept context gain is measured by")
    parser.add_argument("--rounds", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    study, bootstrap = read_study(args.items, args.reference), Bootstrap(args.rounds, args.seed)
    measured, found = cells(study), differences(study, bootstrap)
    write_tables(study, measured, found, bootstrap)
    if args.json:
        lines = [json.dumps(rounded(each), separators=(",", ":")) for each in measured]
        changes = [json.dumps(rounded(each), separators=(",", ":")) for each in found]
        args.json.write_text('{"cells":[\n' + ",\n".join(lines) + '\n],"differences":[\n' + ",\n".join(changes) + "\n]}\n", encoding="utf-8")


if __name__ == "__main__":
    main()
