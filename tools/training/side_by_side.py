"""What comparisons of `ssa train` with plain PyTorch share: a random model in a folder, rows, schedule and optimiser, and the run itself."""

import csv
import json
import math
import shutil
import subprocess

import torch
from safetensors.torch import save_file


def hf_tensors(model):
    """Tensors of a model with embed_tokens, layers and norm, under Hugging Face's names."""
    tensors = {"model.embed_tokens.weight": model.embed_tokens.weight, "model.norm.weight": model.norm}
    for i, layer in enumerate(model.layers):
        for name, tensor in layer.named_parameters():
            part = "self_attn." if name[:2] in ("q_", "k_", "v_", "o_", "g_") else "mlp." if "_proj" in name else ""
            tensors[f"model.layers.{i}.{part}{name}" + ("" if name.endswith(".weight") else ".weight")] = tensor
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


def save_model(model, config, tokenizer, folder):
    """Weights and configuration beside the tokenizer files of folder `tokenizer`."""
    folder.mkdir()
    save_file(hf_tensors(model), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    for path in tokenizer.glob("tokenizer*.json"):
        shutil.copy(path, folder)


def read_rows(args, model, flags):
    """Rows of all steps, each a list of sequences, as `ssa data show` gives them."""
    rows = []
    for row in range(args.steps * args.batch):
        command = [args.ssa, "data", "show", args.dataset, "-m", model, "--row", row, "--seed", args.seed, "--seq-len", args.seq_len,
                   "--json", *flags]
        out = subprocess.run([str(word) for word in command], check=True, capture_output=True, text=True).stdout
        rows.append([json.loads(line) for line in out.splitlines()])
    return rows


def run_ssa(args, folder, recipe, columns):
    """`ssa train` with a recipe that writes to folder/out; {column: number} of every line of its log.csv."""
    (folder / "recipe.toml").write_text(recipe)
    subprocess.run([args.ssa, "train", str(folder / "recipe.toml")], check=True, capture_output=True)
    with open(folder / "out" / "log.csv") as file:
        return [{name: float(row[name] or 0) for name in columns} for row in csv.DictReader(file)]


def make_optimizer(model, args):
    """AdamW that decays matrices alone."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    others = [p for p in model.parameters() if p.dim() <= 1]
    return torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
                             lr=args.lr, betas=(0.9, 0.95), eps=1e-8)


def learning_rate(args, step):
    """Of step 1, 2, ...: a linear warm-up to the peak, then half a cosine to 0."""
    if step <= args.warmup:
        return args.lr * step / (args.warmup + 1)
    return args.lr * 0.5 * (1 + math.cos(math.pi * (step - args.warmup - 1) / (args.steps - args.warmup)))


def take_step(model, optimizer, args, step, max_norm):
    torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(args, step)
    optimizer.step()


def print_side_by_side(ours, theirs, tolerance):
    """Prints every step's numbers; the exit status: 0 if there are equally many steps and all are within the tolerance."""
    worst = 0.0
    print("step   " + "".join(f"{name:>12} {'PyTorch':>12} {'':>8}" for name in ours[0]))
    for step, (a, b) in enumerate(zip(ours, theirs), 1):
        worst = max([worst] + [abs(a[name] - b[name]) for name in a])
        print(f"{step:4}   " + "".join(f"{a[name]:12.8f} {b[name]:12.8f} {abs(a[name] - b[name]):8.0e}" for name in a))
    print(f"largest difference {worst:.1e}, allowed {tolerance:.0e}")
    return 0 if len(ours) == len(theirs) and worst <= tolerance else 1
