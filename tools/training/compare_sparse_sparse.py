"""Objective sparse-sparse of `ssa train` against plain PyTorch in float64: the same weights, rows and streams; every step's cross
entropy, alignment and total side by side.

    python3 tools/training/compare_sparse_sparse.py --ssa build/ssa --tokenizer FOLDER --dataset FOLDER [--variant moba ...]

FOLDER of --tokenizer: tokenizer.json and config.json (any model: a small gated one is made here). Block selection, streams, gates
and alignment are written here from arXiv 2511.20102, one query at a time, with dense masks. Exits with 1 where a number differs by
more than --tolerance. Wants torch and safetensors.
"""

import argparse
import json
import math
import pathlib
import sys
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F

from side_by_side import make_optimizer, print_side_by_side, read_rows, run_ssa, save_model, take_step

MASK64 = (1 << 64) - 1


def mix_bits(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB & MASK64
    return x ^ (x >> 31)


def mix_seeds(*seeds):
    mixed = 0
    for seed in seeds:
        mixed = mix_bits((mixed + 0x9E3779B97F4A7C15 + mix_bits((seed + 0x9E3779B97F4A7C15) & MASK64)) & MASK64)
    return mixed


def draws_full(args, row, layer):
    """Whether the full stream feeds the layer."""
    if args.variant != "ssa":
        return args.variant == "fullattn"
    return mix_seeds(args.seed, row, layer if args.stream == "layer" else 0) >> 63 == 1


def chosen_mask(q, k, scale, size, n_blocks):
    """Of one group's heads q [heads, n, d] over k [n, d]: who sees whom, [n, n]; rule exact, one query after the other."""
    n = k.shape[0]
    seen = torch.zeros(n, n, dtype=torch.bool)
    for t in range(n):
        own, complete = t // size, (t + 1) // size
        importance = torch.full((own + 1,), -math.inf, dtype=q.dtype)
        if complete:
            means = k[:complete * size].reshape(complete, size, -1).mean(1)
            importance[:complete] = (q[:, t] @ means.T * scale).softmax(-1).sum(0)
        importance[own] = math.inf
        for block in importance.sort(descending=True, stable=True).indices[:n_blocks].tolist():
            seen[t, block * size:(block + 1) * size] = True
    return seen & torch.ones(n, n, dtype=torch.bool).tril()


class GatedLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, inner, self.d = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        self.heads, self.kv_heads, self.eps = config["num_attention_heads"], config["num_key_value_heads"], config["rms_norm_eps"]
        linear = lambda n_in, n_out: nn.Linear(n_in, n_out, bias=False)
        self.q_proj, self.k_proj = linear(hidden, self.heads * self.d), linear(hidden, self.kv_heads * self.d)
        self.v_proj, self.o_proj = linear(hidden, self.kv_heads * self.d), linear(self.heads * self.d, hidden)
        self.g_proj = linear(hidden, 3 * self.heads)
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, inner), linear(hidden, inner), linear(inner, hidden)
        self.input_layernorm, self.post_attention_layernorm = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.ones(hidden))

    def rotated(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def softmax_over(self, q, k, v, mask):
        scores = q @ k.transpose(1, 2) / math.sqrt(self.d)
        return scores.masked_fill(~mask, -math.inf).softmax(-1).nan_to_num(0.0) @ v

    def compressed(self, q, k, v, size):
        n, blocks = k.shape[1], k.shape[1] // size
        if blocks == 0:
            return torch.zeros_like(q)
        means = lambda x: x[:, :blocks * size].unflatten(1, (blocks, size)).mean(2)
        complete = (torch.arange(n)[:, None] + 1) // size
        return self.softmax_over(q, means(k), means(v), torch.arange(blocks)[None, :] < complete)

    def forward(self, x, cos, sin, args, feeds_full):
        """The layer's output, and its alignment summed over tokens and features."""
        n, group = x.shape[0], self.heads // self.kv_heads
        h = F.rms_norm(x, x.shape[-1:], self.input_layernorm, self.eps)
        split = lambda t: t.view(n, -1, self.d).transpose(0, 1)
        q, k, v = split(self.q_proj(h)), split(self.k_proj(h)), split(self.v_proj(h))
        q, k = self.rotated(q, cos, sin), self.rotated(k, cos, sin)
        gates = self.g_proj(h).view(n, self.heads, 3).sigmoid().permute(2, 1, 0)[..., None]  # [3, heads, n, 1]
        with torch.no_grad():
            masks = [chosen_mask(q[g * group:(g + 1) * group], k[g], self.d ** -0.5, args.block_size, args.blocks)
                     for g in range(self.kv_heads)]
            chosen = torch.stack(masks).repeat_interleave(group, 0)
        causal = torch.ones(n, n, dtype=torch.bool).tril()
        k, v = k.repeat_interleave(group, 0), v.repeat_interleave(group, 0)
        full, sparse = (gates[1] * self.softmax_over(q, k, v, mask) for mask in (causal, chosen))
        alignment = 0.0
        if args.variant == "nsa":
            window = causal & ~causal.tril(-args.window)
            out = sparse + gates[0] * self.compressed(q, k, v, args.block_size) + gates[2] * self.softmax_over(q, k, v, window)
        else:
            out = full if feeds_full else sparse
        if args.variant == "ssa":
            apart = lambda a, b: F.smooth_l1_loss(a, b, reduction="sum", beta=1.0)
            if args.alignment in ("both", "full"):
                alignment = alignment + apart(full, sparse.detach())
            if args.alignment in ("both", "sparse"):
                alignment = alignment + apart(sparse, full.detach())
        x = x + self.o_proj(out.transpose(0, 1).reshape(n, -1))
        h = F.rms_norm(x, x.shape[-1:], self.post_attention_layernorm, self.eps)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h)), alignment


class GatedLlama(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(GatedLayer(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(config["hidden_size"]))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.1)  # large enough for some blocks to be better than others

    def forward(self, ids, args, row):
        """Logits, and the mean over layers of alignment."""
        d = self.config["head_dim"]
        frequencies = 1.0 / self.config["rope_theta"] ** (torch.arange(0, d, 2, dtype=torch.float32) / d)
        angles = (torch.arange(len(ids))[:, None].float() * frequencies).repeat(1, 2)
        cos, sin = angles.cos().double(), angles.sin().double()
        x, alignment = self.embed_tokens(ids), 0.0
        for number, layer in enumerate(self.layers):
            x, added = layer(x, cos, sin, args, draws_full(args, row, number))
            alignment = alignment + added / len(self.layers)
        return F.linear(F.rms_norm(x, x.shape[-1:], self.norm, self.config["rms_norm_eps"]), self.embed_tokens.weight), alignment


def make_checkpoint(args, folder):
    config = json.loads((args.tokenizer / "config.json").read_text())
    config = {"model_type": "llama-nsa", "architectures": ["LlamaNSAForCausalLM"], "hidden_act": "silu", "hidden_size": 32,
              "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
              "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True,
              "vocab_size": config["vocab_size"], "bos_token_id": config.get("bos_token_id"), "eos_token_id": config.get("eos_token_id")}
    torch.manual_seed(0)
    model = GatedLlama(config).double()
    save_model(model, {**config, "dtype": "float64"}, args.tokenizer, folder)
    return model


def train(model, rows, args):
    """{"loss", "ce", "alignment"} of every step. A row is a micro-batch: its number draws the stream."""
    optimizer = make_optimizer(model, args)
    width = model.config["num_attention_heads"] * model.config["head_dim"]
    found = []
    for step in range(1, args.steps + 1):
        first = (step - 1) * args.batch
        batch = [(first + i, s) for i, row in enumerate(rows[first:first + args.batch]) for s in row]
        n_targets = sum(sum(t >= 0 for t in s["targets"]) for _, s in batch)
        n_tokens = sum(len(s["ids"]) for _, s in batch)
        optimizer.zero_grad()
        ce = alignment = 0.0
        for row, sequence in batch:
            logits, apart = model(torch.tensor(sequence["ids"]), args, row)
            entropy = F.cross_entropy(logits, torch.tensor(sequence["targets"]), ignore_index=-100, reduction="sum") / n_targets
            apart = apart / (n_tokens * width)
            (entropy + args.alignment_weight * apart).backward()
            ce, alignment = ce + entropy.item(), alignment + float(apart)
        take_step(model, optimizer, args, step, 1.0)
        found.append({"loss": ce + args.alignment_weight * alignment, "ce": ce, "alignment": alignment})
    return found


def recipe_of(args, model, folder):
    return f"""
[job]
output = "{folder}/out"
seed = {args.seed}
[model]
path = "{model}"
dtype = "f64"
device = "cpu"
[data]
sources = ["{args.dataset}"]
seq_len = {args.seq_len}
[objective]
sparse_sparse = 1.0
[sparse]
block_size = {args.block_size}
blocks = {args.blocks}
variant = "{args.variant}"
alignment = "{args.alignment}"
alignment_weight = {args.alignment_weight}
stream = "{args.stream}"
window = {args.window}
[optimizer]
lr = {args.lr}
[lr_scheduler]
warmup_steps = {args.warmup}
[training]
steps = {args.steps}
global_batch_size = {args.batch}
micro_batch_size = 1
[metrics]
log_interval = 1
tensorboard = false
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ssa", default="build/ssa")
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--variant", default="ssa", choices=["ssa", "fullattn", "moba", "nsa"])
    parser.add_argument("--alignment", default="both", choices=["both", "none", "full", "sparse"])
    parser.add_argument("--stream", default="batch", choices=["batch", "layer"])
    parser.add_argument("--alignment-weight", type=float, default=10.0)
    parser.add_argument("--block-size", type=int, default=8)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--window", type=int, default=20)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seq-len", type=int, default=120)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tolerance", type=float, default=1e-6)
    args = parser.parse_args()
    torch.set_default_dtype(torch.float64)
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        model = make_checkpoint(args, folder / "model")
        ours = run_ssa(args, folder, recipe_of(args, folder / "model", folder), ["loss", "ce", "alignment"])
        theirs = train(model, read_rows(args, folder / "model", ["--no-gists"]), args)
    return print_side_by_side(ours, theirs, args.tolerance)


if __name__ == "__main__":
    sys.exit(main())
