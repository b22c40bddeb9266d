"""Compares `ssa logits --attention full|sparse` with the reference on tiny random models.

Usage: python compare_sparse.py [--program ../../build/ssa] [--cases 60] [--seed 43] [--only N]
                                [--dtype f32|f64] [--kernels auto|reference] [--device cpu|cuda]
Needs numpy and torch. Every case is a random model (llama-nsa, and Llama, Qwen2, Qwen3 without
gates), a random sequence, a mode, variant, rule, block size and budget, perhaps llama3 scaling asked
for at run time, and perhaps --decode-from with passes of several sizes. Exit status 1 if any case
differs by more than the tolerance.

Where the reference in float32 chooses other blocks than the reference in float64, the choice hangs
on rounding: such a case is run and shown, but not counted.
"""

import argparse
import json
import os
import sys
import tempfile

import torch

from program import ProgramFailed, first_difference, run, write_json
from run_cases import run_cases
from sparse_sparse import Sparse, SparseModel
from tensor_file import read_tensors
from tiny_models import write_model

VOCAB = 61
TOLERANCE = {"f32": 1e-4, "f64": 1e-9}

SHAPES = [
    {},
    {"num_key_value_heads": 6, "tie_word_embeddings": True},
    {"num_attention_heads": 8, "num_key_value_heads": 1},
    {"num_attention_heads": 4, "num_key_value_heads": 4, "head_dim": 32, "hidden_size": 64},
]


def random_case(generator):
    """Everything that decides one comparison."""
    model_type = generator.choice(["llama-nsa"] * 5 + ["llama", "qwen2", "qwen3"])
    rule = generator.choice(["exact", "exact", "published"])
    block_size = generator.choice([2, 4, 8, 16] if rule == "published" else [1, 3, 4, 8, 16, 32])
    places = [1, 2, 3, 4, 8, 16, 64]
    if rule == "published":  # as many as a block has tokens often: there the rules part
        places = [n for n in places if n <= block_size] + [block_size] * 3
    variant = generator.choice(["ssa", "ssa", "sparse-sparse", "moba", "fullattn", "nsa", "nsa"])
    if model_type != "llama-nsa" and variant == "nsa":
        variant = "ssa"
    window = generator.choice([1, 5, 20, 128]) if variant == "nsa" else 0
    length = generator.choice([1, 7, 33, 100, 161])
    n_decoded = generator.choice([0, 0, 1, 40, 1000])
    return {
        "model_type": model_type,
        "shape": generator.choice(SHAPES),
        "model_seed": generator.randrange(10**6),
        "ids": [generator.randrange(VOCAB) for _ in range(length)],
        "n_decoded": min(n_decoded, length - 1),
        "pieces": [generator.choice([1, 13, 64, 512]), generator.choice([1, 1, 7])],
        "scaling": generator.choice([None, None, "llama3:4:32", "llama3:4"]),
        # Named by config.json alone, or by flags that differ from it.
        "by_flags": generator.random() < 0.7,
        "sparse": Sparse(
            mode=generator.choice(["sparse"] * 6 + ["full"]),
            block_size=block_size,
            n_blocks=generator.choice(places),
            rule=rule,
            variant=variant,
            window=window,
        ),
    }


def config_changes(case):
    """What config.json says beyond the shape."""
    changes = dict(case["shape"])
    if case["model_type"] == "llama-nsa":
        sparse, by_flags = case["sparse"], case["by_flags"]
        changes.update(
            inference_mode="full" if sparse.mode == "full" else "sparse",
            block_size=16 if by_flags else sparse.block_size,
            block_counts=16 if by_flags else sparse.n_blocks,
            window_size=sparse.window,
        )
    return changes


def attention_flags(case):
    sparse = case["sparse"]
    flags = ["--attention", sparse.mode]
    if case["model_type"] == "llama-nsa" or sparse.mode == "sparse":
        flags += ["--variant", sparse.variant]
    if sparse.mode == "full":
        return flags
    flags += ["--block-rule", sparse.rule]
    if case["by_flags"] or case["model_type"] != "llama-nsa":
        flags += ["--block-size", str(sparse.block_size), "--blocks", str(sparse.n_blocks)]
    return flags


def scale_config(folder, scaling):
    """The folder's config.json as the flag means it, for the reference."""
    path = os.path.join(folder, "config.json")
    with open(path) as file:
        config = json.load(file)
    parts = scaling.split(":")
    config["rope_scaling"] = {
        "rope_type": parts[0],
        "factor": float(parts[1]),
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": (
            int(parts[2]) if len(parts) > 2 else config["max_position_embeddings"]
        ),
    }
    write_json(path, config)


class Comparison:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder

    def command(self, number, case, folder):
        ids_path = os.path.join(self.folder, f"ids{number}.json")
        out_path = os.path.join(self.folder, f"logits{number}.safetensors")
        write_json(ids_path, case["ids"])
        command = [self.arguments.program, "logits", folder, "--ids", ids_path, "--out", out_path]
        command += ["--dtype", self.arguments.dtype, "--device", self.arguments.device]
        command += ["--kernels", self.arguments.kernels, *attention_flags(case)]
        command += ["-b", str(case["pieces"][0])]
        if case["scaling"]:
            command += ["--rope-scaling", case["scaling"]]
        if case["n_decoded"]:
            command += ["--decode-from", str(len(case["ids"]) - case["n_decoded"])]
            command += ["--decode-piece", str(case["pieces"][1])]
        return command, out_path

    def run(self, number, case):
        """(lines about what differs, largest difference, decided?, command)."""
        folder = os.path.join(self.folder, f"model{number}")
        write_model(folder, case["model_type"], VOCAB, case["model_seed"], **config_changes(case))
        command, out_path = self.command(number, case, folder)
        try:
            run(command)
            answer = read_tensors(out_path)
        except ProgramFailed as failure:
            return [str(failure)], float("nan"), True, command
        if case["scaling"]:
            scale_config(folder, case["scaling"])
        exact, rounded = (SparseModel(folder, dtype) for dtype in (torch.float64, torch.float32))
        expected = exact.logits(case["ids"], case["sparse"])
        rounded.logits(case["ids"], case["sparse"])
        decided = self.arguments.dtype == "f64" or exact.choices == rounded.choices
        lines, largest = self.differences(case, expected, answer)
        return lines, largest, decided, command

    def differences(self, case, expected, answer):
        line = first_difference("ids", case["ids"], answer["ids"].tolist())
        logits = torch.tensor(answer["logits"]).to(torch.float64)
        if line or logits.shape != expected.shape:
            return [line or f"logits {list(logits.shape)}"], float("nan")
        by_row = (logits - expected).abs().amax(dim=1)
        largest, bound = by_row.max().item(), TOLERANCE[self.arguments.dtype]
        if largest <= bound:  # NaN fails
            return [], largest
        bad = [row for row, value in enumerate(by_row.tolist()) if not value <= bound]
        text = f"{len(bad)} of {len(by_row)} rows, first row {bad[0]}"
        return [f"logits differ by {largest:.3g} (bound {bound:g}); {text}"], largest


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(here, "../../build/ssa"))
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=43)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--dtype", choices=["f32", "f64"], default="f32")
    parser.add_argument("--kernels", choices=["auto", "reference"], default="auto")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="compare_sparse_")
    sys.exit(run_cases(Comparison(arguments, folder), random_case, arguments, folder))


if __name__ == "__main__":
    main()
