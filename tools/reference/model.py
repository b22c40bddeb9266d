"""A decoder written to be read: Llama, Qwen2, Qwen3 and llama-nsa (full mode), with the attended
set of every query built one by one.

No cache, no kernels, no batches: every row is computed from scratch. Loads a Hugging Face folder.
"""

from dataclasses import dataclass, field

import torch

from folder_model import FolderModel
from mask import GistMask
from select_chunks import Options, Tree, attended_keys, pivot_scores, select_gists


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


class ReferenceModel(FolderModel):
    def __init__(self, folder, dtype=torch.float64, rope_dtype=torch.float32):
        """rope_dtype: the precision of angles, cosines and sines (transformers: float32)."""
        super().__init__(folder, dtype)
        self.rope_dtype = rope_dtype

    def logits(self, layout, positions, attention, prompt_end=None):
        """(logits [n, vocab], choices). `layout` gives ids and structure."""
        n_tokens = len(layout.ids)
        chooser = KeyChooser(layout, attention, n_tokens if prompt_end is None else prompt_end)
        turn = self.turn_of(positions, self.rope_dtype)
        hidden = self.embed(layout.ids)
        for layer in range(self.n_layers):
            name = f"model.layers.{layer}."
            normed = self.norm(name + "input_layernorm", hidden)
            hidden = hidden + self.attention(layer, name + "self_attn.", normed, turn, chooser)
            normed = self.norm(name + "post_attention_layernorm", hidden)
            hidden = hidden + self.mlp(name + "mlp.", normed)
        return self.output(hidden), chooser.choices

    def attention(self, layer, name, x, turn, chooser):
        n_tokens = x.shape[0]
        queries, keys, values = self.projections(name, x, turn)
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
        return self.linear(name + "o_proj", out.reshape(n_tokens, -1))


def attend(queries, keys, values):
    """Ordinary scaled softmax attention over exactly these keys: [G, head_dim]."""
    scores = queries @ keys.T / queries.shape[-1] ** 0.5
    return torch.softmax(scores, dim=-1) @ values
