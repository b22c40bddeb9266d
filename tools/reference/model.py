"""A decoder written to be read: Llama, Qwen2, Qwen3 and llama-nsa (full mode), with the attended
set of every query built one by one.

No cache, no kernels, no batches: every row is computed from scratch. Loads a Hugging Face folder.
"""

import glob
import json
import os
from dataclasses import dataclass, field

import torch

from mask import GistMask
from rope import frequencies
from select_chunks import Options, Tree, attended_keys, pivot_scores, select_gists
from tensor_file import read_tensors


@dataclass
class Attention:
    """How to attend. kind: full | gists | ssa."""

    kind: str = "full"
    sink: int = 3
    previous: int = 1
    pivot: str = "gist"
    options: Options = field(default_factory=Options)


class KeyChooser:
    """Names the keys that one query of one key/value head attends, layer by layer.

    `prompt_end`: rows [0, prompt_end) are the prompt, later rows count as generated. `choices`
    collects every union that selection made: {(layer, kv_head, query): union}.
    """

    def __init__(self, layout, attention, prompt_end):
        self.layout = layout
        self.attention = attention
        self.prompt_end = prompt_end
        self.choices = {}
        if attention.kind != "full":
            self.tree = Tree(layout.levels, layout.n_levels)
            self.mask = GistMask(
                layout.levels, layout.chunk_sizes, attention.sink, attention.previous
            )

    def keys_of(self, layer, kv_head, query, head_queries, keys):
        """Sorted indices. head_queries [G, head_dim] and keys [n, head_dim] are rotated."""
        if self.attention.kind == "full":
            return list(range(query + 1))
        is_suffix = query >= self.layout.prefix_end
        selects = self.attention.kind == "ssa" and layer > 0 and is_suffix and self.mask.has_gists
        if not selects:
            return [k for k in range(query + 1) if self.mask.visible(query, k)]
        return self._unfold(layer, kv_head, query, head_queries, keys)

    def _unfold(self, layer, kv_head, query, head_queries, keys):
        generated = query >= self.prompt_end
        # Section 6.1: N of the prompt's suffix is the whole prompt; of a generated token, the
        # length that includes it.
        n_tokens = query + 1 if generated else self.prompt_end
        by_head = [
            pivot_scores(self.tree, q.numpy(), keys.numpy(), self.attention.pivot)
            for q in head_queries
        ]
        scores = [[head[i] for head in by_head] for i in range(self.tree.n_levels)]
        _, union = select_gists(
            self.tree, scores, n_tokens, self.layout.chunk_sizes, self.attention.options
        )
        self.choices[layer, kv_head, query] = union
        return attended_keys(
            self.layout,
            self.tree,
            union,
            query,
            generated,
            self.attention.sink,
            self.attention.previous,
            self.mask,
        )


class ReferenceModel:
    def __init__(self, folder, dtype=torch.float64, rope_dtype=torch.float32):
        """rope_dtype: the precision of angles, cosines and sines (transformers: float32)."""
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        self.weights = {}
        for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
            for name, array in read_tensors(path).items():
                self.weights[name] = torch.tensor(array).to(dtype)
        self.dtype = dtype
        self.rope_dtype = rope_dtype
        self.n_heads = self.config["num_attention_heads"]
        self.n_kv_heads = self.config.get("num_key_value_heads") or self.n_heads
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.n_heads
        self.frequencies, self.rope_scale = frequencies(self.config, self.head_dim)

    def logits(self, layout, positions, attention, prompt_end=None):
        """(logits [n, vocab], choices). `layout` gives ids and structure."""
        n_tokens = len(layout.ids)
        chooser = KeyChooser(layout, attention, n_tokens if prompt_end is None else prompt_end)
        cosine, sine = self._rotation(positions)
        hidden = self.weights["model.embed_tokens.weight"][layout.ids]  # [n, hidden]
        for layer in range(self.config["num_hidden_layers"]):
            name = f"model.layers.{layer}."
            normed = self._norm(hidden, name + "input_layernorm.weight")
            hidden = hidden + self._attention(
                layer, name + "self_attn.", normed, cosine, sine, chooser
            )
            normed = self._norm(hidden, name + "post_attention_layernorm.weight")
            hidden = hidden + self._mlp(name + "mlp.", normed)
        hidden = self._norm(hidden, "model.norm.weight")
        head = self.weights.get("lm_head.weight")
        if head is None or self.config.get("tie_word_embeddings", False):
            head = self.weights["model.embed_tokens.weight"]
        return hidden @ head.T, chooser.choices

    # ---------------------------------------------------------------- parts

    def _norm(self, x, weight_name):
        eps = self.config.get("rms_norm_eps", 1e-6)
        scale = torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps)
        return x * scale * self.weights[weight_name]

    def _linear(self, name, x):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def _mlp(self, name, x):
        gate = torch.nn.functional.silu(self._linear(name + "gate_proj", x))
        return self._linear(name + "down_proj", gate * self._linear(name + "up_proj", x))

    def _rotation(self, positions):
        """cos and sin, each [n, head_dim / 2]."""
        places = torch.tensor(positions, dtype=self.rope_dtype)
        angles = places[:, None] * self.frequencies.to(self.rope_dtype)[None, :]
        cosine, sine = angles.cos() * self.rope_scale, angles.sin() * self.rope_scale
        return cosine.to(self.dtype), sine.to(self.dtype)

    def _rotate(self, x, cosine, sine):
        """x [n, heads, head_dim]; channel j turns together with channel j + head_dim / 2."""
        first, second = x.chunk(2, dim=-1)
        cosine, sine = cosine[:, None, :], sine[:, None, :]
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)

    def _attention(self, layer, name, x, cosine, sine, chooser):
        n_tokens = x.shape[0]
        queries = self._linear(name + "q_proj", x).view(n_tokens, self.n_heads, self.head_dim)
        keys = self._linear(name + "k_proj", x).view(n_tokens, self.n_kv_heads, self.head_dim)
        values = self._linear(name + "v_proj", x).view(n_tokens, self.n_kv_heads, self.head_dim)
        if name + "q_norm.weight" in self.weights:  # Qwen3
            queries = self._norm(queries, name + "q_norm.weight")
            keys = self._norm(keys, name + "k_norm.weight")
        queries = self._rotate(queries, cosine, sine)
        keys = self._rotate(keys, cosine, sine)

        out = torch.zeros_like(queries)
        group_size = self.n_heads // self.n_kv_heads
        for kv_head in range(self.n_kv_heads):
            heads = slice(kv_head * group_size, (kv_head + 1) * group_size)
            for query in range(n_tokens):
                group = queries[query, heads]  # [G, head_dim]
                attended = chooser.keys_of(layer, kv_head, query, group, keys[:, kv_head])
                out[query, heads] = attend(
                    group, keys[attended, kv_head], values[attended, kv_head]
                )

        if name + "g_proj.weight" in self.weights:  # llama-nsa: row 3h + 1 gates head h
            gates = torch.sigmoid(x @ self.weights[name + "g_proj.weight"].T)[:, 1::3]
            out = out * gates[:, :, None]
        return self._linear(name + "o_proj", out.reshape(n_tokens, -1))


def attend(queries, keys, values):
    """Ordinary scaled softmax attention over exactly these keys: [G, head_dim]."""
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ values
