"""A Llama in plain PyTorch, for comparing training with: nothing of ours, nothing clever.

Attention is `scaled_dot_product_attention`, causal or under a dense boolean mask; norms are `rms_norm`.
"""

import torch
import torch.nn as nn
import torch.nn.functional as F


class Layer(nn.Module):
    def __init__(self, hidden, inner, heads, kv_heads, head_dim, eps):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim, self.eps = heads, kv_heads, head_dim, eps
        linear = lambda n_in, n_out: nn.Linear(n_in, n_out, bias=False)
        self.q_proj, self.k_proj, self.v_proj = linear(hidden, heads * head_dim), linear(hidden, kv_heads * head_dim), linear(hidden, kv_heads * head_dim)
        self.o_proj = linear(heads * head_dim, hidden)
        self.gate_proj, self.up_proj, self.down_proj = linear(hidden, inner), linear(hidden, inner), linear(inner, hidden)
        self.input_layernorm, self.post_attention_layernorm = nn.Parameter(torch.ones(hidden)), nn.Parameter(torch.ones(hidden))

    def rotate(self, x, cos, sin):
        a, b = x.chunk(2, -1)
        return x * cos + torch.cat([-b, a], -1) * sin

    def forward(self, x, cos, sin, mask):
        batch, n, _ = x.shape
        h = F.rms_norm(x, x.shape[-1:], self.input_layernorm, self.eps)
        split = lambda t, count: t.view(batch, n, count, self.head_dim).transpose(1, 2)
        q, k, v = split(self.q_proj(h), self.heads), split(self.k_proj(h), self.kv_heads), split(self.v_proj(h), self.kv_heads)
        q, k = self.rotate(q, cos, sin), self.rotate(k, cos, sin)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True)
        x = x + self.o_proj(out.transpose(1, 2).reshape(batch, n, -1))
        h = F.rms_norm(x, x.shape[-1:], self.post_attention_layernorm, self.eps)
        return x + self.down_proj(F.silu(self.gate_proj(h)) * self.up_proj(h))


class Llama(nn.Module):
    """Tied embeddings, default rotary embedding. `config` has the keys of config.json."""

    def __init__(self, config):
        super().__init__()
        hidden = config["hidden_size"]
        self.head_dim = config.get("head_dim") or hidden // config["num_attention_heads"]
        self.theta, self.eps = rope_theta(config), config["rms_norm_eps"]
        self.embed_tokens = nn.Embedding(config["vocab_size"], hidden)
        self.layers = nn.ModuleList(
            Layer(hidden, config["intermediate_size"], config["num_attention_heads"], config["num_key_value_heads"], self.head_dim, self.eps)
            for _ in range(config["num_hidden_layers"]))
        self.norm = nn.Parameter(torch.ones(hidden))
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.02)

    def load(self, tensors):
        """From Hugging Face's names."""
        names = {"model.embed_tokens.weight": self.embed_tokens.weight, "model.norm.weight": self.norm}
        for i, layer in enumerate(self.layers):
            for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
                names[f"model.layers.{i}.self_attn.{part}.weight"] = getattr(layer, part).weight
            for part in ("gate_proj", "up_proj", "down_proj"):
                names[f"model.layers.{i}.mlp.{part}.weight"] = getattr(layer, part).weight
            for part in ("input_layernorm", "post_attention_layernorm"):
                names[f"model.layers.{i}.{part}.weight"] = getattr(layer, part)
        with torch.no_grad():
            for name, parameter in names.items():
                parameter.copy_(tensors[name])
        return self

    def forward(self, ids, positions, mask=None):
        """[batch, n] each -> hidden states; mask [n, n] or [batch, 1, n, n], true = visible."""
        frequencies = 1.0 / self.theta ** (torch.arange(0, self.head_dim, 2, device=ids.device, dtype=torch.float32) / self.head_dim)
        angles = (positions[..., None].float() * frequencies).repeat(1, 1, 2)[:, None]
        x = self.embed_tokens(ids)
        cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return F.rms_norm(x, x.shape[-1:], self.norm, self.eps)

    def logits(self, hidden):
        return F.linear(hidden, self.embed_tokens.weight)


def rope_theta(config):
    return config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
