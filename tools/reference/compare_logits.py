"""Compares `ssa logits` with the reference model on tiny random models.

Usage: python compare_logits.py [--program ../../build/ssa] [--cases 60] [--seed 41] [--only N]
                                [--dtype f32|f64] [--device cpu|cuda]
Needs numpy and torch. Every case is a random model (Llama, Qwen2, Qwen3, llama-nsa shapes, three
gist rows), a random sequence (plain chunks, 1 to 3 levels, pieces, suffix), one of full | gists |
ssa, and perhaps --decode-from. Exit status 1 if any case differs by more than the tolerance.

Angles of rotary positions are taken in float32, as transformers does; --rope f64 takes them in
float64, should the program do so under f64. Where the reference in float32 chooses other gists than
the reference in float64, the choice hangs on rounding: such a case is run and shown, but not
counted. Frequencies of llama3 and yarn are float32, too: one that differs in its last bit costs
about 1e-7 a position, which --bound can allow for under f64.
"""

import argparse
import os
import sys
import tempfile

import torch

from layout import RAW, Layout, lay_out_pieces
from model import Attention, ReferenceModel
from program import ProgramFailed, first_difference, run, write_json
from run_cases import run_cases
from select_chunks import Options
from tensor_file import read_tensors
from tiny_models import write_model

BASE_VOCAB = 61
GIST_IDS = [BASE_VOCAB, BASE_VOCAB + 1, BASE_VOCAB + 2]
TOLERANCE = {"f32": 1e-4, "f64": 1e-9}

SHAPES = [
    ("llama", {}),
    ("llama", {"num_key_value_heads": 6, "tie_word_embeddings": True}),
    ("llama", {"num_attention_heads": 4, "num_key_value_heads": 1, "rope_scaling": {
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}}),
    ("qwen2", {}),
    ("qwen2", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 56,
        "head_dim": 32}),
    ("qwen3", {"rope_scaling": {
        "rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}}),
    ("llama-nsa", {
        "inference_mode": "full", "block_size": 16, "block_counts": 16, "window_size": 0}),
]  # fmt: skip


def random_case(generator):
    """Everything that decides one comparison."""
    model_type, changes = generator.choice(SHAPES)
    kind = generator.choice(["full", "gists", "ssa", "ssa", "ssa", "ssa"])
    if model_type == "llama-nsa":  # ssa of a llama-nsa model is an error
        kind = "full"
    chunk_sizes = generator.choice([[4], [8], [3], [2, 2], [4, 2], [2, 2, 2], [1, 2, 2]])
    n_pieces = generator.choice([1, 1, 2, 4])
    pieces = [random_ids(generator, generator.randint(2, 120 // n_pieces)) for _ in range(n_pieces)]
    options = Options(select=generator.choice(["head", "head", "head", "group-sum"]))
    rule = generator.choice(["formula", "ratio", "budget", "mass"])
    if rule == "ratio":
        options.ratio = generator.choice([1, 2, 4, 16])
    elif rule == "budget":
        options.budget = generator.choice([4, 16, 48])
    elif rule == "mass":
        options.mass = generator.choice([0.3, 0.7, 0.95, 1.0])
    return {
        "model_type": model_type,
        "changes": changes,
        "model_seed": generator.randrange(10**6),
        "pieces": pieces,
        "suffix": random_ids(generator, generator.randint(1, 30)),
        "chunk": chunk_sizes,
        "attention": Attention(
            kind=kind,
            sink=generator.choice([0, 2, 3, 3, 3, 5]),
            previous=generator.choice([0, 1, 1, 2]),
            pivot=generator.choice(["gist", "gist", "gist", "mean", "quest", "recent"]),
            options=options,
        ),
        # how many of the suffix's last tokens are decoded one by one
        "n_decoded": generator.choice([0, 0, 1, 5, 1000]),
    }


def random_ids(generator, count):
    return [generator.randrange(BASE_VOCAB) for _ in range(count)]


def layout_of(case):
    """What `ssa logits` runs over: laid out for gists and ssa, raw for full."""
    if case["attention"].kind == "full":
        ids = [token for piece in case["pieces"] for token in piece] + case["suffix"]
        return Layout(case["chunk"], ids=ids, levels=[RAW] * len(ids))
    return lay_out_pieces(
        case["pieces"], case["suffix"], case["chunk"], case["attention"].sink, GIST_IDS
    )


def attention_flags(case):
    attention, options = case["attention"], case["attention"].options
    flags = ["--attention", attention.kind]
    if attention.kind == "full":
        return flags
    flags += ["--chunk", ",".join(map(str, case["chunk"])), "--plain-chunks"]
    flags += [f"--sink={attention.sink}", "--previous-chunks", str(attention.previous)]
    if attention.kind == "gists":
        return flags
    for name in ("ratio", "budget", "mass"):
        if getattr(options, name) is not None:
            flags += ["--" + name, str(getattr(options, name))]
    flags += ["--select", options.select.split("-")[0]]
    return flags + ["--pivot", attention.pivot]


class Comparison:
    def __init__(self, arguments, folder):
        self.arguments = arguments
        self.folder = folder

    def write_model(self, number, case):
        folder = os.path.join(self.folder, f"model{number}")
        settings = {
            "token_ids": GIST_IDS,
            "chunk": case["chunk"],
            "sink": 3,
            "previous_chunks": 1,
            "word_aware": False,
            "trained_ratios": [],
        }
        changes = dict(case["changes"])
        if case["model_type"] != "llama-nsa":
            changes["gist"] = settings
        write_model(folder, case["model_type"], BASE_VOCAB + 3, case["model_seed"], **changes)
        return folder

    def reference(self, folder, case, layout, prompt_end, dtype):
        rope = torch.float64 if self.arguments.rope == "f64" else torch.float32
        model = ReferenceModel(folder, dtype, rope)
        return model.logits(layout, layout.positions, case["attention"], prompt_end)

    def run(self, number, case):
        """(lines about what differs, largest difference, decided?, command)."""
        layout = layout_of(case)
        n_tokens = len(layout.ids)
        n_decoded = min(case["n_decoded"], len(case["suffix"]))
        prompt_end = n_tokens - n_decoded
        folder = self.write_model(number, case)
        ids_path = os.path.join(self.folder, f"ids{number}.json")
        out_path = os.path.join(self.folder, f"logits{number}.safetensors")
        write_json(ids_path, {"pieces": case["pieces"], "suffix": case["suffix"]})
        command = [self.arguments.program, "logits", folder, "--ids", ids_path, "--out", out_path]
        command += ["--dtype", self.arguments.dtype, "--device", self.arguments.device]
        command += attention_flags(case)
        if n_decoded:
            command += ["--decode-from", str(prompt_end)]

        expected, choices = self.reference(folder, case, layout, prompt_end, torch.float64)
        _, rounded = self.reference(folder, case, layout, prompt_end, torch.float32)
        decided = self.arguments.dtype == "f64" or choices == rounded
        try:
            run(command)
            answer = read_tensors(out_path)
            lines, largest = self.differences(layout, expected, answer)
        except ProgramFailed as failure:
            return [str(failure)], float("nan"), True, command
        except (KeyError, ValueError, OSError) as failure:
            return [f"unreadable answer: {failure!r}"], float("nan"), True, command
        return lines, largest, decided, command

    def differences(self, layout, expected, answer):
        lines = [
            first_difference("ids", layout.ids, answer["ids"].tolist()),
            first_difference("positions", layout.positions, answer["positions"].tolist()),
        ]
        lines = [line for line in lines if line]
        logits = torch.tensor(answer["logits"]).to(torch.float64)
        if logits.shape != expected.shape:
            lines.append(f"logits {list(logits.shape)}, expected {list(expected.shape)}")
            return lines, float("nan")
        by_row = (logits - expected).abs().amax(dim=1)
        largest = by_row.max().item()
        bound = self.arguments.bound or TOLERANCE[self.arguments.dtype]
        if not largest <= bound:  # NaN fails too
            bad = [row for row, value in enumerate(by_row.tolist()) if not value <= bound]
            lines.append(
                f"logits differ by {largest:.3g} (bound {bound:g}); {len(bad)} of {len(by_row)} "
                f"rows, first row {bad[0]} (prefix ends at {layout.prefix_end})"
            )
        return lines, largest


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=os.path.join(here, "../../build/ssa"))
    parser.add_argument("--cases", type=int, default=60)
    parser.add_argument("--seed", type=int, default=41)
    parser.add_argument("--only", type=int, help="run this case alone")
    parser.add_argument("--dtype", choices=["f32", "f64"], default="f32")
    parser.add_argument("--rope", choices=["f32", "f64"], default="f32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bound", type=float, help="instead of 1e-4 (f32) or 1e-9 (f64)")
    arguments = parser.parse_args()

    folder = tempfile.mkdtemp(prefix="compare_logits_")
    sys.exit(run_cases(Comparison(arguments, folder), random_case, arguments, folder))


if __name__ == "__main__":
    main()
