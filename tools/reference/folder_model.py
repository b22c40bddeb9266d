"""What the models here share: the weights of a Hugging Face folder, and the parts of a layer that
do not attend."""

import glob
import json
import os

import torch

from rope import frequencies
from tensor_file import read_tensors


class FolderModel:
    """A Llama, Qwen2, Qwen3 or llama-nsa model, its weights as `dtype`."""

    def __init__(self, folder, dtype):
        with open(os.path.join(folder, "config.json")) as file:
            self.config = json.load(file)
        self.weights = {}
        for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
            for name, array in read_tensors(path).items():
                self.weights[name] = torch.tensor(array).to(dtype)
        self.dtype = dtype
        self.n_layers = self.config["num_hidden_layers"]
        self.n_heads = self.config["num_attention_heads"]
        self.n_kv_heads = self.config.get("num_key_value_heads") or self.n_heads
        self.head_dim = self.config.get("head_dim") or self.config["hidden_size"] // self.n_heads
        self.frequencies, self.rope_scale = frequencies(self.config, self.head_dim)

    def embed(self, ids):
        """[n, hidden]"""
        return self.weights["model.embed_tokens.weight"][ids]

    def output(self, hidden):
        """Logits [n, vocab] of the last layer's output."""
        hidden = self.norm("model.norm", hidden)
        head = self.weights.get("lm_head.weight")
        if head is None or self.config.get("tie_word_embeddings", False):
            head = self.weights["model.embed_tokens.weight"]
        return hidden @ head.T

    def norm(self, name, x):
        eps = self.config.get("rms_norm_eps", 1e-6)
        scale = torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + eps)
        return x * scale * self.weights[name + ".weight"]

    def linear(self, name, x):
        y = x @ self.weights[name + ".weight"].T
        bias = self.weights.get(name + ".bias")
        return y if bias is None else y + bias

    def mlp(self, name, x):
        gate = torch.nn.functional.silu(self.linear(name + "gate_proj", x))
        return self.linear(name + "down_proj", gate * self.linear(name + "up_proj", x))

    def projections(self, name, x, turn):
        """Queries [n, n_heads, head_dim], keys and values [n, n_kv_heads, head_dim]; queries and
        keys rotated."""
        q, k, v = (
            self.linear(name + part, x).view(x.shape[0], -1, self.head_dim)
            for part in ("q_proj", "k_proj", "v_proj")
        )
        if name + "q_norm.weight" in self.weights:  # Qwen3
            q, k = self.norm(name + "q_norm", q), self.norm(name + "k_norm", k)
        return self.rotate(q, turn), self.rotate(k, turn), v

    def turn_of(self, positions, rope_dtype=torch.float32):
        """Cosines and sines, each [n, head_dim / 2]. rope_dtype: what they are computed in
        (transformers: float32)."""
        places = torch.tensor(list(positions), dtype=rope_dtype)
        angles = places[:, None] * self.frequencies.to(rope_dtype)[None, :]
        return [(f(angles) * self.rope_scale).to(self.dtype) for f in (torch.cos, torch.sin)]

    def rotate(self, x, turn):
        """x [n, heads, head_dim]; channel j turns together with channel j + head_dim / 2."""
        first, second = x.chunk(2, dim=-1)
        cosine, sine = (part[:, None, :] for part in turn)
        return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
