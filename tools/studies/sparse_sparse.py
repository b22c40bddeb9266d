"""The study of docs/studies/sparse_sparse.md: small models from scratch, one a run, trained and measured in one go.

    python3 tools/studies/sparse_sparse.py --ssa build/ssa --tokenizer FOLDER --train DATASET --held-out FILE.txt --out runs/study \\
        --runs ssa,fullattn,moba --millions 50 [--seeds 1,2] [--device cuda] [--needles 4096=needles-4k.jsonl,8192=needles-8k.jsonl]

FOLDER: tokenizer.json and, if it is there, tokenizer_config.json. DATASET: of `ssa data build` with that tokenizer, or several as
TEXT=0.8,RECALL=0.2 with the shares they have. A run trains, scores the held-out text in full and sparse mode at one, two and four
times the trained length over all budgets, asks the needles, and appends one line of JSON to OUT/results.jsonl. An entry of --runs may
say its millions of tokens and its seed: ssa/100/2. Without --needles the sets are made from the held-out text, one for each of those
lengths, into OUT. An evaluation is one call of `ssa eval` a task, length and scaling of positions, with all modes and budgets; they run
beside each other (--jobs), since starting a program takes longer than what a small model has to do. For the same reason runs go beside
each other too: --slots 0,0,1,1 is two at a time on each of two GPUs, taken in the order of --runs. Runs that have a line there
already are passed over, so that the study can be spread over several sittings; --list shows them. `sparse_sparse_report.py` beside this file makes tables and plots of the lines.
Python's standard library alone.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import shutil
import subprocess
import sys
import threading
import time

QUESTION_ROOM = 64  # tokens of a needle's question and answer

# name: settings of [sparse]
VARIANTS = {
    "ssa": {"variant": "ssa", "alignment_weight": 10.0},
    "ssa1": {"variant": "ssa", "alignment_weight": 1.0},
    "ssa160": {"variant": "ssa", "alignment_weight": 160.0},
    "fullattn": {"variant": "fullattn"},
    "moba": {"variant": "moba"},
    "nsa": {"variant": "nsa", "window": 128},
    "unaligned": {"variant": "ssa", "alignment": "none"},
    "full_learns": {"variant": "ssa", "alignment": "full"},
    "sparse_learns": {"variant": "ssa", "alignment": "sparse"},
    "layer_streams": {"variant": "ssa", "stream": "layer"},
}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--ssa", default="build/ssa")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--train", required=True, help="dataset of ssa data build, or DATASET=SHARE, a comma list")
    parser.add_argument("--held-out", required=True, help="text file")
    parser.add_argument("--out", required=True, type=pathlib.Path)
    parser.add_argument("--runs", default="all", help="comma list of NAME[/MILLIONS[/SEED]]: " + ", ".join(VARIANTS) + "; all")
    parser.add_argument("--millions", type=float, default=50, help="tokens to train on, in millions")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--needles", default="", help="LENGTH=FILE.jsonl, a comma list; documents of that many tokens; none: no needles")
    parser.add_argument("--needle-items", type=int, default=100)
    parser.add_argument("--needle-kind", default="single", choices=["single", "multi-key", "multi-value"], help="of sets made here")
    parser.add_argument("--jobs", type=int, default=0, help="evaluations at a time (0: on CUDA 8, else 1)")
    parser.add_argument("--slots", default="", help="CUDA device of each run at a time, a comma list (default: one, on the first)")
    parser.add_argument("--length", type=int, default=4096, help="tokens a row")
    parser.add_argument("--held-out-tokens", type=int, default=131072)
    parser.add_argument("--budgets", default="4,8,16,32,64")
    parser.add_argument("--block-size", type=int, default=16)
    parser.add_argument("--blocks", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=11)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--kv-heads", type=int, default=2)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16, help="rows a step")
    parser.add_argument("--micro-batch", type=int, default=4, help="rows a forward pass: one stream each")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--boundaries", default="separate", choices=["separate", "join"])
    parser.add_argument("--whole-rows", action="store_true", help="rows are windows of one document")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="what would run")
    parser.add_argument("--keep-checkpoints", action="store_true")
    return parser.parse_args()


def model_config(args):
    """About 10 million parameters with the default sizes and 8,192 tokens; room for four times the trained length."""
    tokenizer = json.loads((args.tokenizer / "tokenizer.json").read_text())
    n_words = 1 + max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer.get("added_tokens", []))])
    source = args.tokenizer / "config.json"
    given = json.loads(source.read_text()) if source.exists() else {}
    return {
        "architectures": ["LlamaNSAForCausalLM"], "model_type": "llama-nsa", "hidden_act": "silu", "rms_norm_eps": 1e-5,
        "vocab_size": (n_words + 63) // 64 * 64, "hidden_size": args.hidden, "intermediate_size": 8 * args.hidden // 3 // 32 * 32,
        "num_hidden_layers": args.layers, "num_attention_heads": args.heads, "num_key_value_heads": args.kv_heads,
        "head_dim": args.head_dim, "max_position_embeddings": 4 * args.length, "rope_theta": 500000.0,
        "tie_word_embeddings": True, "bos_token_id": given.get("bos_token_id"), "eos_token_id": given.get("eos_token_id"),
        "block_size": args.block_size, "block_counts": args.blocks, "window_size": 0, "inference_mode": "sparse"}


def count_parameters(config):
    hidden, inner, width = config["hidden_size"], config["intermediate_size"], config["num_attention_heads"] * config["head_dim"]
    keys = config["num_key_value_heads"] * config["head_dim"]
    layer = 2 * hidden * width + 2 * hidden * keys + 3 * config["num_attention_heads"] * hidden + 3 * hidden * inner + 2 * hidden
    return config["vocab_size"] * hidden + config["num_hidden_layers"] * layer + hidden


def write_model_folder(args, folder):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(model_config(args), indent=2))
    for path in args.tokenizer.glob("tokenizer*.json"):
        shutil.copy(path, folder)


def toml(value):
    return json.dumps(value) if not isinstance(value, bool) else str(value).lower()


def data_sources(given):
    """The recipe's data.sources as TOML: DATASET, or DATASET=SHARE,..."""
    pairs = [entry.rsplit("=", 1) for entry in given.split(",")]
    if len(pairs) == 1 and len(pairs[0]) == 1:
        return toml([given])
    return "[" + ", ".join(f"{{path = {toml(path)}, weight = {float(share)}}}" for path, share in pairs) + "]"


def write_recipe(args, work, folder):
    steps = max(1, round(work.millions * 1e6 / (args.batch * args.length)))
    sections = {
        "job": {"output": str(folder / "out"), "seed": work.seed},
        "model": {"path": str(folder / "model"), "init": "random", "dtype": args.dtype, "device": args.device},
        "data": {"seq_len": args.length, "boundaries": args.boundaries, "whole_rows": args.whole_rows},
        "objective": {"sparse_sparse": 1.0},
        "sparse": {"block_size": args.block_size, "blocks": args.blocks, **VARIANTS[work.name]},
        "optimizer": {"lr": args.lr, "beta1": 0.9, "beta2": 0.95, "weight_decay": 0.1},
        "lr_scheduler": {"warmup_steps": min(steps - 1, max(1, steps // 100)), "decay": "cosine", "min_ratio": 0.0},
        "training": {"steps": steps, "global_batch_size": args.batch, "micro_batch_size": args.micro_batch, "max_norm": 1.0,
                     "max_loss_growth": 0.0},
        "metrics": {"log_interval": max(1, steps // 200), "tensorboard": False},
    }
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]"] + [f"{key} = {toml(value)}" for key, value in values.items()]
        lines += [f"sources = {data_sources(args.train)}", ""] if section == "data" else [""]
    (folder / "recipe.toml").write_text("\n".join(lines))
    return steps


def call(command, log, gpu=None):
    """Runs it, on that CUDA device if one is said; what it says goes to a file. Returns seconds, or None where it failed."""
    start = time.time()
    environment = {**os.environ, **({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})}
    with open(log, "w") as out:
        code = subprocess.run([str(part) for part in command], stdout=out, stderr=subprocess.STDOUT, env=environment).returncode
    if code != 0:
        tail = pathlib.Path(log).read_text().strip().splitlines()[-3:]
        print(f"  failed ({code}): {' '.join(map(str, command[:4]))} ...: {' / '.join(tail)}", flush=True)
        return None
    return time.time() - start


def read_log(path):
    """The columns of log.csv, each a list of numbers (None where empty)."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    columns = zip(*rows[1:])
    return {name: [float(cell) if cell else None for cell in column] for name, column in zip(rows[0], columns)}


def scalings(args, times):
    """What is said of positions beyond the trained length: nothing, and that they are stretched."""
    return [""] if times == 1 else ["", f"llama3:{times}:{args.length}"]


def sparsity_call(args, work, model, folder, times, scaling):
    """Losses over budgets and what attention keeps at so many times the trained length. Returns a part of the line, or None."""
    length = times * args.length
    name = f"sparsity-{times}x{'-scaled' if scaling else ''}"
    mode_flags = ["--variant", "nsa"] if VARIANTS[work.name]["variant"] == "nsa" else []
    out = folder / f"{name}.json"
    command = [args.ssa, "eval", "sparsity", model, args.held_out, *mode_flags, *device_flags(args), "--length", length, "--windows",
               max(1, args.held_out_tokens // length), "--budgets", args.budgets, "--out", out]
    if call(command + (["--rope-scaling", scaling] if scaling else []), folder / f"{name}.log", work.gpu) is None:
        return None
    result = json.loads(out.read_text())
    if times > 1:
        del result["layers"]
    return {"times": times, "rope_scaling": scaling, **result}


def needle_call(args, work, model, folder, length, path):
    """Likelihood of the answers in full mode and over budgets. Returns a part of the line, or None."""
    times = -(-length // args.length)
    summary = folder / f"needle-{length}.json"
    methods = ",".join(["full"] + [f"sparse:{budget}" for budget in args.budgets.split(",")])
    command = [args.ssa, "eval", "niah", model, "--data", path, "--out", folder / f"needle-{length}.jsonl", "--summary", summary,
               "--methods", methods, "--limit", args.needle_items, "--likelihood-only", *device_flags(args)]
    command += ["--rope-scaling", scalings(args, times)[-1]] if times > 1 else []
    if call(command, folder / f"needle-{length}.log", work.gpu) is None:
        return None
    return {"length": length, "methods": json.loads(summary.read_text())["methods"]}


def device_flags(args):
    return ["--device", args.device, *(["-t", args.threads] if args.threads else [])]


SETS = threading.Lock()


def needle_sets(args, model):
    """[(length, file)]: as given, else made from the held-out text, with room for question and answer within each length."""
    if args.needles == "none":
        return []
    if args.needles:
        return [(int(length), path) for length, path in (entry.split("=", 1) for entry in args.needles.split(","))]
    sets = []
    for times in (1, 2, 4):
        length, path = times * args.length, args.out / f"needles-{args.needle_kind}-{times * args.length}.jsonl"
        command = [args.ssa, "eval", "make", "niah", model, "--text", args.held_out, "--out", path, "--items", args.needle_items,
                   "--length", length - QUESTION_ROOM, "--kind", args.needle_kind]
        with SETS:  # the first run to come makes them for all
            if path.exists() or call(command, args.out / "needles.log") is not None:
                sets.append((length, path))
    return sets


def evaluate(args, work, model, folder):
    """All evaluations of a model, several at a time: {"lengths", "needles", "evaluation_seconds"}."""
    start = time.time()
    with concurrent.futures.ThreadPoolExecutor(args.jobs or (8 if args.device == "cuda" else 1)) as pool:
        lengths = [pool.submit(sparsity_call, args, work, model, folder, times, scaling)
                   for times in (4, 2, 1) for scaling in scalings(args, times)]  # the longest first: they take longest
        needles = [pool.submit(needle_call, args, work, model, folder, length, path)
                   for length, path in reversed(needle_sets(args, model))]
    results = lambda calls: [call.result() for call in calls if call.result() is not None]
    return {"lengths": sorted(results(lengths), key=lambda each: (each["times"], each["rope_scaling"])),
            "needles": sorted(results(needles), key=lambda each: each["length"]), "evaluation_seconds": time.time() - start}


@dataclasses.dataclass(frozen=True)
class Work:
    """One model of the study, and the CUDA device it trains on (None: whichever is first)."""

    name: str
    millions: float
    seed: int
    gpu: str | None = None

    def label(self):
        return f"{self.name}-{self.millions:g}M-s{self.seed}"


RESULTS = threading.Lock()


def run(args, work):
    folder = args.out / work.label()
    shutil.rmtree(folder, ignore_errors=True)
    write_model_folder(args, folder / "model")
    steps = write_recipe(args, work, folder)
    print(f"{work.label()}: {steps} steps", flush=True)
    seconds = call([args.ssa, "train", folder / "recipe.toml"], folder / "train.log", work.gpu)
    config = model_config(args)
    line = {"run": work.name, "seed": work.seed, "millions": work.millions, "steps": steps, "lr": args.lr, "length": args.length,
            "batch": args.batch, "micro_batch": args.micro_batch, "boundaries": args.boundaries, "whole_rows": args.whole_rows,
            "parameters": count_parameters(config), "sparse": VARIANTS[work.name], "block_size": args.block_size, "blocks": args.blocks,
            "heads": [args.heads, args.kv_heads, args.head_dim], "dtype": args.dtype, "train_seconds": seconds}
    if (folder / "out/log.csv").exists():
        line["log"] = read_log(folder / "out/log.csv")
    checkpoints = sorted((folder / "out").glob("step-*"))
    if seconds is not None and checkpoints:
        line |= evaluate(args, work, checkpoints[-1], folder)
    if not args.keep_checkpoints:
        for path in (folder / "out").glob("step-*/training.safetensors"):
            path.unlink()
    with RESULTS, open(args.out / "results.jsonl", "a") as out:
        out.write(json.dumps(line) + "\n")
    scored = line.get("lengths") or [{}]
    print(f"{work.label()}: {seconds or 0:.0f} s and {line.get('evaluation_seconds', 0):.0f} s of evaluation, "
          f"full loss {scored[0].get('full_loss')}, sparse {scored[0].get('sparse_loss')}", flush=True)


def works(args):
    """What is asked for, in order; exits where a name is not known."""
    asked = []
    for entry in list(VARIANTS) if args.runs == "all" else args.runs.split(","):
        name, *rest = entry.split("/")
        if name not in VARIANTS:
            sys.exit(f"--runs {name} is not known; known are {', '.join(VARIANTS)}")
        millions = float(rest[0]) if rest else args.millions
        asked += [Work(name, millions, int(seed)) for seed in (rest[1:] or args.seeds.split(","))]
    return asked


def run_all(args, asked):
    """A thread for each slot, which takes the next run when it is through with one."""
    waiting = queue.SimpleQueue()
    for work in asked:
        waiting.put(work)

    def serve(gpu):
        while True:
            try:
                work = waiting.get_nowait()
            except queue.Empty:
                return
            run(args, dataclasses.replace(work, gpu=gpu))

    slots = args.slots.split(",") if args.slots else [None]
    with concurrent.futures.ThreadPoolExecutor(len(slots)) as pool:
        served = [pool.submit(serve, gpu) for gpu in slots]
    for each in served:
        each.result()


def main():
    args = parse_arguments()
    asked = works(args)
    args.out.mkdir(parents=True, exist_ok=True)
    results = args.out / "results.jsonl"
    done = [json.loads(line) for line in results.read_text().splitlines()] if results.exists() else []
    done = {(line["run"], line["millions"], line["seed"]) for line in done if line.get("lengths")}
    print(f"{count_parameters(model_config(args)) / 1e6:.2f}M parameters")
    left = [work for work in asked if (work.name, work.millions, work.seed) not in done]
    for work in asked:
        print(f"{work.label()}: {'to run' if work in left else 'done'}")
    if not args.list:
        run_all(args, left)


if __name__ == "__main__":
    main()
