"""Measures gist adapters beside adapters of full attention and the base, by many evaluations (`ssa eval`) on the same items.

    python3 tools/studies/adapter.py --ssa build/ssa --model BASE --adapters ssa-sft=DIR,full-sft=DIR,ssa-cpt=DIR,full-cpt=DIR,base \\
        --sets FOLDER --held-out wikivisual.heldout.txt --device cuda --slots 0,0,0,1,1,1 --threads 4 --out runs/adapter

FOLDER: of tools/make_eval_sets.py; a set's name says its task (niah-, kv-, ppl-; else questions, which are asked in the chat frame).
--held-out, documents with NUL between them, adds ppl-4k and ppl-8k: kept context gain behind prefixes of 4,096 and 7,680 tokens, of the
same documents. A model without folder is the base; one whose adapter has gist rows is asked by gists, the others by what chooses
keys without training, with as many keys an item as SSA attends there with the adapter named by --budgets.

An evaluation is a model, a set and a part: `main` (full attention, gists, ratio 8) or `ratios` (16, 32 and two levels). They go beside
each other, --slots: a CUDA device each, the most important first; what needs another's budgets waits for it. Each leaves
OUT/runs/MODEL.SET.PART.json with all that is kept of its items, and is not run again while its model, adapter, items, limit and
budgets are the same. OUT/items.jsonl and items.jsonl.xz gather them for `adapter_report.py` beside this file. Python's standard library alone.
"""

import argparse
import concurrent.futures
import dataclasses
import hashlib
import json
import lzma
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

MODELS = ["ssa-sft", "full-sft", "ssa-cpt", "full-cpt", "base"]  # the order in which they are measured; others come behind
SETS = ["xquad-4k", "niah-single-4k", "ppl-4k", "kv-4k", "niah-multi-4k", "hotpotqa", "nq-10", "ppl-8k", "xquad-8k", "niah-single-8k",
        "nq-20", "nq-1", "nq-5", "xquad-gold", "kv-8k", "niah-multi-8k", "nq-40", "niah-single-2k", "kv-2k", "niah-multi-2k"]
UNTRAINED = ["quest", "mean", "recent", "random", "streaming", "h2o"]
GIST_METHODS = {"main": ["full", "gists", "ssa:8@8", "ssa:mean:8@8", "ssa:quest:8@8", "ssa:recent:8@8", "ssa:random:8@8"],
                "ratios": ["ssa:16@16", "ssa:32@32", "ssa:16@4-4", "ssa:32@8-4"]}
FULL_METHODS = {"main": ["full"] + [f"{name}:8@8" for name in UNTRAINED],  # the chunk says whose budget: that of ssa:8@8
                "ratios": [f"{name}:{ratio}@{ratio}" for ratio in (16, 32) for name in UNTRAINED]}
PPL_PREFIXES = {"ppl-4k": 4096, "ppl-8k": 7680}
SUFFIX = 512  # tokens; with the longer prefix 8,192, SmolLM2's positions

# field: digits behind the point (None: significant ones)
KEPT = {"nll": None, "n_scored": 0, "gain_nll": None, "exact": 0, "all_correct": 0, "f1": 4, "contains": 0, "evidence_recall": 4, "attended": 1}
LAYERS = ["evidence_recall_by_layer", "attended_by_layer"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ssa", default="build/ssa")
    parser.add_argument("--model", required=True, type=pathlib.Path, help="the base of all adapters")
    parser.add_argument("--adapters", required=True, help="comma list of NAME=DIR; NAME alone: the base. Known to the report: " + ", ".join(MODELS))
    parser.add_argument("--sets", required=True, type=pathlib.Path, help="folder of .jsonl files")
    parser.add_argument("--only", default="", help="comma list of sets (default: all)")
    parser.add_argument("--parts", default="main,ratios")
    parser.add_argument("--held-out", type=pathlib.Path, help="text for ppl-4k and ppl-8k; without it there are none")
    parser.add_argument("--ppl-items", type=int, default=64)
    parser.add_argument("--limit", type=int, default=0, help="first so many items of each set (0: all)")
    parser.add_argument("--budgets", default="", help="whose SSA the others get as many keys as (default: the first gist adapter)")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16", help="of all evaluations")
    parser.add_argument("--slots", default="", help="CUDA device of each evaluation at a time, a comma list (default: one, on the first)")
    parser.add_argument("--threads", type=int, default=0, help="of each evaluation (0: a core each)")
    parser.add_argument("--seconds", type=float, default=0, help="end what runs after so many, and gather what is there (0: never)")
    parser.add_argument("--keep-results", action="store_true", help="keep what ssa eval wrote, runs/*.results.jsonl")
    parser.add_argument("--list", action="store_true", help="what would run")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    return parser.parse_args()


# -- what there is to do -----------------------------------------------------------------------------------------------


def digest(path):
    """Of a file, or of a folder's files; of nothing, for the base."""
    found = hashlib.sha256()
    for file in ([] if path is None else sorted(path.iterdir()) if path.is_dir() else [path]):
        if file.is_file() and file.suffix != ".md":
            found.update(file.name.encode() if path.is_dir() else b"")
            with open(file, "rb") as data:
                while part := data.read(1 << 22):
                    found.update(part)
    return found.hexdigest()


def has_gists(adapter):
    return adapter is not None and bool(json.loads((adapter / "adapter_config.json").read_text()).get("trainable_token_indices"))


@dataclasses.dataclass
class Model:
    name: str
    adapter: pathlib.Path | None
    gists: bool
    digest: str


def read_models(given):
    models = []
    for entry in given.split(","):
        name, _, folder = entry.partition("=")
        adapter = pathlib.Path(folder) if folder else None
        if adapter is not None and not (adapter / "adapter_config.json").exists():
            print(f"{name}: no adapter in {adapter}; left out", flush=True)
            continue
        models.append(Model(name, adapter, has_gists(adapter), digest(adapter)))
    return sorted(models, key=lambda model: place(MODELS, model.name))


def place(names, name):
    return names.index(name) if name in names else len(names)


def task_of(name):
    return next((task for task in ("niah", "kv", "ppl") if name.startswith(task)), "qa")


@dataclasses.dataclass
class Work:
    """One evaluation: a call of `ssa eval`."""

    model: Model
    set: str
    part: str
    data: pathlib.Path
    methods: list
    needs: "Work | None" = None  # whose results set its budgets
    key: str = ""  # what its results depend on

    def label(self):
        return f"{self.model.name}.{self.set}.{self.part}"


def task_flags(name):
    if task_of(name) == "ppl":
        return ["--prefix-tokens", str(PPL_PREFIXES[name]), "--suffix-tokens", str(SUFFIX)] if name in PPL_PREFIXES else []
    return ["--chat"] if task_of(name) == "qa" else []


def with_key(work, args, base, data):
    parts = [base, work.model.digest, data, task_of(work.set), task_flags(work.set), work.methods, args.limit, args.dtype,
             work.needs.key if work.needs else ""]
    work.key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
    return work


def plan(args, models, sets):
    """All evaluations, the most important first: the main part of all sets, set by set, then the ratios."""
    source = next((model for model in models if model.gists and args.budgets in ("", model.name)), None)
    if source is None and any(not model.gists for model in models):
        if args.budgets:
            sys.exit(f"--budgets {args.budgets}: no such gist adapter among --adapters")
        print("no gist adapter: budgets are N / ratio keys", flush=True)
    base, works = digest(args.model), []
    digests = {name: digest(path) for name, path in sets}
    for part in GIST_METHODS:
        for name, path in sets:
            of_set = {}
            for model in sorted(models, key=lambda each: each is not source):  # the one that sets budgets comes first
                methods = (GIST_METHODS if model.gists else FULL_METHODS)[part]
                needs = of_set.get(source.name) if source and not model.gists else None
                of_set[model.name] = with_key(Work(model, name, part, path, methods, needs), args, base, digests[name])
            works += of_set.values()
    return works


# -- text behind long prefixes -----------------------------------------------------------------------------------------


def make_texts(args):
    """ppl-4k and ppl-8k: documents long enough for both, drawn from the held-out text, written once."""
    folder = args.out / "sets"
    paths = [folder / f"{name}.jsonl" for name in PPL_PREFIXES]
    if all(path.exists() and len(path.read_text(encoding="utf-8").splitlines()) == args.ppl_items for path in paths):
        return paths
    need = max(PPL_PREFIXES.values()) + SUFFIX
    documents = [text[: 8 * need] for text in args.held_out.read_text(encoding="utf-8").split("\0")]
    documents = [(number, text) for number, text in enumerate(documents) if len(text) > 3 * need]
    random.Random(1).shuffle(documents)
    rows = "".join(json.dumps({"text": text}) + "\n" for _, text in documents)
    ids = subprocess.run([args.ssa, "tokenize", args.model, "--jsonl", "-"], input=rows.encode(), check=True, capture_output=True).stdout
    long_enough = [document for document, line in zip(documents, ids.splitlines(), strict=True) if len(json.loads(line)["ids"]) > need]
    if len(long_enough) < args.ppl_items:
        print(f"{args.held_out} has {len(long_enough)} documents of more than {need} tokens, {args.ppl_items} are wanted", flush=True)
    if not long_enough:
        return []
    folder.mkdir(parents=True, exist_ok=True)
    items = [{"id": f"document-{number}", "text": text} for number, text in long_enough[: args.ppl_items]]
    for path in paths:
        path.write_text("".join(json.dumps(item, ensure_ascii=False) + "\n" for item in items), encoding="utf-8")
    return paths


def find_sets(args):
    """[(name, file)] of all sets, the most important first."""
    found = {path.stem: path for path in args.sets.glob("*.jsonl")}
    if args.held_out:
        found |= {path.stem: path for path in make_texts(args)}
    return sorted(found.items(), key=lambda each: (place(SETS, each[0]), each[0]))


def asked(args, works):
    """Those that --only and --parts are about."""
    for flag, given, known in (("--only", args.only, {work.set for work in works}), ("--parts", args.parts, set(GIST_METHODS))):
        for name in filter(None, given.split(",")):
            if name not in known:
                sys.exit(f"{flag} {name} is not known; known are {', '.join(sorted(known))}")
    return [work for work in works if work.part in args.parts.split(",") and work.set in (args.only.split(",") if args.only else [work.set])]


# -- what is kept of results -------------------------------------------------------------------------------------------


def rounded(value, digits):
    if value is None:
        return None
    value = float(f"{value:.5g}") if digits is None else round(float(value), digits)
    return int(value) if value == int(value) else value


def condense(lines):
    """Results of an evaluation: the items' ids, and a row a method with a list over items a field."""
    by_method = {}
    for line in lines:
        by_method.setdefault(line["method"], []).append(line)
    items = [line["item"] for line in next(iter(by_method.values()))]
    rows = []
    for method, of_method in by_method.items():
        row = {"method": method, "budget": "/".join(sorted({line.get("budget", "") for line in of_method}))}
        for name, digits in KEPT.items():
            values = [rounded(line.get(name), digits) for line in of_method]
            if any(value is not None for value in values):
                row[name] = values
        for name in LAYERS:
            layers = [line[name] for line in of_method if name in line]
            if layers:
                row[name] = [rounded(sum(each) / len(layers), KEPT[name.removesuffix("_by_layer")]) for each in zip(*layers)]
        rows.append(row)
    return items, rows


def write_whole(path, text):
    """So that the file is never there in part."""
    hidden = path.with_name("." + path.name)
    hidden.write_text(text, encoding="utf-8")
    hidden.replace(path)


def compact(value):
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def budget_lines(lines):
    """What --budget-from reads, without the rest."""
    kept = ["item", "method", "nll", "n_scored", "ratio", "chunk", "sets_budget", "attended", "attended_by_layer", "attended_bytes", "scanned_bytes"]
    return "".join(compact({name: line[name] for name in kept}) + "\n" for line in lines if line["sets_budget"])


def main_figure(work, rows):
    """In one line: each method's share of answers, or what of the gain it keeps."""
    by_method = {row["method"]: row for row in rows}

    def figure(row):
        if task_of(work.set) == "ppl":
            total = lambda method: sum(by_method[method]["gain_nll"])
            gain = total("alone") - total("full")
            return (total("alone") - sum(row["gain_nll"])) / gain if gain else 0.0
        values = row.get("contains" if task_of(work.set) == "qa" else "all_correct", [])
        return sum(values) / max(1, len(values))

    name = {"ppl": "kept gain", "qa": "contains"}.get(task_of(work.set), "all correct")
    return f"{name}: " + ", ".join(f"{row['method']} {figure(row):.3f}" for row in rows if row["method"] != "alone")


def gather(args, works):
    """items.jsonl: a line a set with its items' ids, a line a model, set and method with its numbers in their order.

    All that lies in OUT/runs, of earlier sittings and of other models too, but for results of `works` that no longer hold.
    """
    stale = {kept_path(args, work) for work in works if not is_done(args, work)}
    done = [json.loads(path.read_text(encoding="utf-8")) for path in (args.out / "runs").glob("[!.]*.json") if path not in stale]
    done.sort(key=lambda kept: (place(MODELS, kept["model"]), kept["model"], kept["part"]))
    lines = []
    for name in sorted({kept["set"] for kept in done}, key=lambda name: (place(SETS, name), name)):
        of_set = [kept for kept in done if kept["set"] == name]
        items = max((kept["items"] for kept in of_set), key=len)
        lines.append({"set": name, "task": task_of(name), "items": items})
        seen = set()
        for kept in of_set:
            for row in kept["rows"]:
                if (kept["model"], row["method"]) not in seen:  # both parts of ppl have full and alone
                    seen.add((kept["model"], row["method"]))
                    other = {} if kept["items"] == items else {"items": kept["items"]}
                    lines.append({"model": kept["model"], "set": name, "seconds": kept["seconds"], **other, **row})
    text = "".join(compact(line) + "\n" for line in lines)
    write_whole(args.out / "items.jsonl", text)
    packed = args.out / ".items.jsonl.xz"
    packed.write_bytes(lzma.compress(text.encode(), preset=9))
    packed.replace(args.out / "items.jsonl.xz")
    print(f"{args.out / 'items.jsonl'}: {len(done)} evaluations, {len(text.encode()) / 1e6:.1f} MB", flush=True)


# -- running -----------------------------------------------------------------------------------------------------------


def kept_path(args, work):
    return args.out / "runs" / f"{work.label()}.json"


def budget_path(args, work):
    return args.out / "runs" / f"{work.label()}.budgets.jsonl"


def is_done(args, work):
    path = kept_path(args, work)
    return path.exists() and json.loads(path.read_text())["key"] == work.key


def command_of(args, work, results):
    command = [args.ssa, "eval", task_of(work.set), args.model, "--data", work.data, "--out", results, "--methods", ",".join(work.methods),
               "--device", args.device, "--dtype", args.dtype, *task_flags(work.set)]
    command += ["--adapter", work.model.adapter] if work.model.adapter else []
    command += ["--budget-from", budget_path(args, work.needs)] if work.needs else []
    command += ["--limit", args.limit] if args.limit else []
    command += ["-t", args.threads] if args.threads else []
    return [str(part) for part in command]


class Runner:
    """Hands out evaluations to slots, each when what it needs has ended."""

    def __init__(self, args, waiting):
        self.args = args
        self.waiting = list(waiting)
        self.state = threading.Condition()
        self.pending = {work.label() for work in waiting}  # waiting or running
        self.failed = []
        self.deadline = time.time() + args.seconds if args.seconds else None
        self.stopped = False

    def take(self):
        """The next one whose budgets are there; None when there is no more."""
        with self.state:
            while self.waiting and not self.is_over():
                for work in self.waiting:
                    if work.needs is None or work.needs.label() not in self.pending:
                        self.waiting.remove(work)
                        return work
                self.state.wait(1.0)
            return None

    def is_over(self):
        return self.stopped or (self.deadline is not None and time.time() > self.deadline)

    def stop(self):
        self.stopped = True

    def call(self, work, command, gpu):
        """The exit code; None: ended before its time."""
        environment = {**os.environ, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})}
        with open(self.args.out / "logs" / f"{work.label()}.log", "w") as log:
            log.write(" ".join(command) + "\n")
            log.flush()
            process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=environment)
            while process.poll() is None:
                try:
                    process.wait(1.0)
                except subprocess.TimeoutExpired:
                    if self.is_over():
                        process.terminate()
        return None if process.returncode != 0 and self.is_over() else process.returncode

    def run(self, work, gpu):
        """A line about how it went."""
        args = self.args
        if work.needs and not is_done(args, work.needs):
            return f"failed: no budgets without {work.needs.label()}"
        start, results = time.time(), args.out / "runs" / f"{work.label()}.results.jsonl"
        code = self.call(work, command_of(args, work, results), gpu)
        for partial in results.parent.glob(f"{results.name}.partial-*"):  # of one that was ended
            partial.unlink()
        if code is None:
            return "not ended in time"
        if code != 0:
            said = (args.out / "logs" / f"{work.label()}.log").read_text(errors="replace").replace("\r", "\n").strip().splitlines()[1:]
            return f"failed ({code}): {' / '.join(said[-2:])}"
        with open(results, encoding="utf-8") as file:
            lines = [json.loads(line) for line in file]
        items, rows = condense(lines)
        if budgets := budget_lines(lines):
            write_whole(budget_path(args, work), budgets)
        kept = {"key": work.key, "model": work.model.name, "set": work.set, "part": work.part,
                "seconds": round(time.time() - start, 1), "items": items, "rows": rows}
        write_whole(kept_path(args, work), compact(kept) + "\n")
        if not args.keep_results:
            results.unlink()
        return f"{kept['seconds']:.0f} s, {len(items)} items, {main_figure(work, rows)}"

    def serve(self, gpu):
        while work := self.take():
            try:
                outcome = self.run(work, gpu)
            except Exception as error:  # noqa: BLE001: one that fails does not stop the others
                outcome = f"failed: {error!r}"
            with self.state:
                self.pending.discard(work.label())
                if outcome.startswith("failed"):
                    self.failed.append(work.label())
                print(f"{work.label()}: {outcome}", flush=True)
                self.state.notify_all()


def run_all(args, works):
    """The labels of those that failed."""
    runner = Runner(args, works)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: runner.stop())
    slots = args.slots.split(",") if args.slots else [None]
    with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool:
        served = [pool.submit(runner.serve, gpu if args.device.startswith("cuda") else None) for gpu in slots]
    for each in served:
        each.result()
    return runner.failed


def main():
    args = parse_arguments()
    for folder in ("runs", "logs"):
        (args.out / folder).mkdir(parents=True, exist_ok=True)
    planned = plan(args, read_models(args.adapters), find_sets(args))
    works = asked(args, planned)
    left = [work for work in works if not is_done(args, work)]
    print(f"{len(works)} evaluations, {len(works) - len(left)} of them done", flush=True)
    if args.list:
        for work in works:
            print(f"{work.label()}: {'to run' if work in left else 'done'}")
        return
    failed = run_all(args, left)
    gather(args, planned)
    if left := [work for work in works if not is_done(args, work) and work.label() not in failed]:
        print(f"{len(left)} left, {left[0].label()} the first", flush=True)
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
