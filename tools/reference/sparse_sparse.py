"""Sparse Sparse Attention and its baselines (arXiv 2511.20102), whole models, query by query.

Written from the paper's description alone: full attention, block selection by both rules, NSA's
three branches. No cache, no kernels, no batches. Loads a Hugging Face folder of a Llama, Qwen2,
Qwen3 or llama-nsa model.
"""

from dataclasses import dataclass

import torch

from folder_model import FolderModel


@dataclass
class Sparse:
    """How to attend. mode: full | sparse; variant: ssa | nsa, of sparse; window: of nsa."""

    mode: str = "sparse"
    block_size: int = 16
    n_blocks: int = 16
    rule: str = "exact"
    variant: str = "ssa"
    window: int = 128


def best(importance, candidates, count):
    """The `count` most important candidates; the lower index among equals."""
    return sorted(candidates, key=lambda block: (-importance[block], block))[:count]


def choose_blocks(queries, means, t, scale, sparse):
    """Block numbers, rising, that one query's group of heads attends. queries [G, d]; means [n, d]
    of the blocks that are complete when key t has come."""
    size = sparse.block_size
    own = t // size
    shares = torch.softmax(queries @ means.T * scale, dim=-1)  # [G, n]
    importance = dict(enumerate(shares.sum(dim=0).tolist()))
    importance[own] = float("inf")  # 1 of every head; nothing ranks before it
    candidates = range(own + 1)
    if sparse.rule == "exact":
        return sorted(best(importance, candidates, sparse.n_blocks))
    rounded = 1
    while rounded < sparse.n_blocks:
        rounded *= 2
    if rounded > size:
        raise ValueError("the published rule has no more places than a block has tokens")
    if rounded < size or own < size:
        return sorted(best(importance, candidates, rounded))
    cut = own // size * size
    early = best(importance, range(cut), size // 2)
    late = best(importance, range(cut, own + 1), size // 2)
    return sorted(early + late)


def attend(queries, keys, values, scale):
    """Softmax attention over exactly these keys; zero if there are none. queries [G, d]."""
    if keys.shape[0] == 0:
        return torch.zeros_like(queries)
    return torch.softmax(queries @ keys.T * scale, dim=-1) @ values


class SparseModel(FolderModel):
    def __init__(self, folder, dtype=torch.float64):
        super().__init__(folder, dtype)
        self.choices = {}  # {(layer, kv_head, query): blocks} of the last call

    def logits(self, ids, sparse):
        """[n, vocab]"""
        self.choices = {}
        turn = self.turn_of(range(len(ids)))
        hidden = self.embed(ids)
        for layer in range(self.n_layers):
            name = f"model.layers.{layer}."
            normed = self.norm(name + "input_layernorm", hidden)
            hidden = hidden + self.attention(layer, name + "self_attn.", normed, turn, sparse)
            normed = self.norm(name + "post_attention_layernorm", hidden)
            hidden = hidden + self.mlp(name + "mlp.", normed)
        return self.output(hidden)

    def attention(self, layer, name, x, turn, sparse):
        n_tokens = x.shape[0]
        q, k, v = self.projections(name, x, turn)
        gates = None
        if name + "g_proj.weight" in self.weights:
            gates = torch.sigmoid(self.linear(name + "g_proj", x)).view(n_tokens, self.n_heads, 3)
        group = self.n_heads // self.n_kv_heads
        out = torch.zeros_like(q)
        for head in range(self.n_kv_heads):
            heads = slice(head * group, (head + 1) * group)
            for t in range(n_tokens):
                gate = None if gates is None else gates[t, heads]
                out[t, heads] = self.attend_query(
                    (layer, head, t), q[t, heads], k[: t + 1, head], v[: t + 1, head], gate, sparse
                )
        return self.linear(name + "o_proj", out.reshape(n_tokens, -1))

    def attend_query(self, place, queries, keys, values, gate, sparse):
        """One query's group of heads [G, d]; keys and values up to its own [t + 1, d]; gate [G, 3]:
        compressed, selected, window."""
        scale = self.head_dim**-0.5
        if sparse.mode == "full":
            out = attend(queries, keys, values, scale)
            return out if gate is None else out * gate[:, 1:2]
        t, size = keys.shape[0] - 1, sparse.block_size
        n_complete = (t + 1) // size
        mean_keys, mean_values = (
            x[: n_complete * size].view(n_complete, size, self.head_dim).mean(dim=1)
            for x in (keys, values)
        )
        blocks = choose_blocks(queries, mean_keys, t, scale, sparse)
        self.choices[place] = blocks
        chosen = [i for i in range(t + 1) if i // size in blocks]
        out = attend(queries, keys[chosen], values[chosen], scale)
        if gate is None:
            return out
        out = out * gate[:, 1:2]
        if sparse.variant == "nsa":
            begin = max(0, t + 1 - sparse.window)
            out = out + gate[:, 0:1] * attend(queries, mean_keys, mean_values, scale)
            out = out + gate[:, 2:3] * attend(queries, keys[begin:], values[begin:], scale)
        return out
