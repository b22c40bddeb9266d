"""Tokens a second of an eager PyTorch training step: what `ssa train` is compared with, in one run on one machine.

    python3 tools/training/bench_torch.py lm  CONFIG.json --seq-len 2048 --tokens 65536
    python3 tools/training/bench_torch.py cpt CONFIG.json --seq-len 4096 --tokens 32768     gists, under a dense mask

bf16 parameters, SDPA, fused AdamW; cross entropy in float32. Random tokens: speed does not depend on them.
"""

import argparse
import json
import time

import torch
import torch.nn.functional as F

from plain_llama import Llama


def gist_layout(n_raw, n_suffix, chunk, sink):
    """Which laid token is a gist, positions, and the mask of one previous chunk: plain chunks of the prefix."""
    is_gist, counted = [], 0
    for i in range(n_raw - n_suffix):
        is_gist.append(False)
        counted += i >= sink
        if counted == chunk and i + 1 < n_raw - n_suffix:
            is_gist.append(True)
            counted = 0
    is_gist = torch.tensor(is_gist + [True] + [False] * n_suffix)
    before = is_gist.long().cumsum(0) - is_gist.long()
    index = torch.arange(len(is_gist))
    mask = (index[:, None] >= index) & ((before[:, None] - before <= 1) | is_gist | (index < sink))
    return is_gist, (~is_gist).long().cumsum(0) - 1, mask


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["lm", "cpt"])
    parser.add_argument("config")
    parser.add_argument("--seq-len", type=int, default=2048)
    parser.add_argument("--tokens", type=int, default=65536, help="raw tokens a step")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--compile", action="store_true")
    args = parser.parse_args()
    config = json.load(open(args.config))
    torch.manual_seed(0)
    model = Llama(config).to("cuda", torch.bfloat16)
    run = torch.compile(model) if args.compile else model
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    batch = args.tokens // args.seq_len
    raw = torch.randint(0, config["vocab_size"] - 3, (batch, args.seq_len), device="cuda")
    if args.kind == "lm":
        ids, positions, mask, scored = raw, torch.arange(args.seq_len, device="cuda").expand(batch, -1), None, slice(None)
    else:
        is_gist, positions, mask = (x.cuda() for x in gist_layout(args.seq_len, 512, 8, 3))
        ids = torch.full((batch, len(is_gist)), config["vocab_size"] - 3, device="cuda")
        ids[:, ~is_gist] = raw
        positions, scored = positions.expand(batch, -1), ~is_gist
    times = []
    for step in range(args.steps):
        torch.cuda.synchronize()
        start = time.time()
        hidden = run(ids, positions, mask)[:, scored]
        logits = model.logits(hidden[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1).float(), raw[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        torch.cuda.synchronize()
        times.append(time.time() - start)
    times = sorted(times[5:])
    print(f"torch {args.kind}{' compiled' if args.compile else ''}: {args.tokens / times[len(times) // 2]:.0f} tokens/s, "
          f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB, seq_len {args.seq_len}")


if __name__ == "__main__":
    main()
