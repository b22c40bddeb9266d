"""Writes tests/golden/rope/rope.json: frequencies, and cosines and sines at some positions, as transformers computes them.

Needs: pip install transformers==5.17.0, and torch 2.13
"""

import json
import pathlib

import torch
import transformers
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

FILE = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/rope/rope.json"
POSITIONS = [0, 1, 5000]
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 256}
LLAMA3 = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 8192}
CASES = {
    "default": (64, {"rope_type": "default", "rope_theta": 10000.0}),
    "default, large theta": (32, {"rope_type": "default", "rope_theta": 1000000.0}),
    "linear": (32, {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}),
    "llama3 as in Llama-3.2": (64, LLAMA3 | {"rope_theta": 500000.0}),
    "llama3, short": (32, LLAMA3 | {"factor": 8.0, "original_max_position_embeddings": 64, "rope_theta": 10000.0}),
    "yarn": (32, YARN | {"rope_theta": 10000.0}),
    "yarn as in Qwen2.5": (128, YARN | {"original_max_position_embeddings": 32768, "rope_theta": 1000000.0}),
    "yarn, attention_factor": (32, YARN | {"attention_factor": 1.5, "rope_theta": 10000.0}),
    "yarn, betas": (32, YARN | {"beta_fast": 16.0, "beta_slow": 2.0, "rope_theta": 10000.0}),
    "yarn, mscale": (32, YARN | {"mscale": 0.7, "mscale_all_dim": 1.3, "rope_theta": 10000.0}),
    "yarn, not truncated": (32, YARN | {"truncate": False, "rope_theta": 10000.0}),
}  # fmt: skip
MAX_POSITIONS = 1024


def answer(head_dim, rope):
    config = transformers.LlamaConfig(
        hidden_size=head_dim * 2, num_attention_heads=2, head_dim=head_dim,
        max_position_embeddings=MAX_POSITIONS, rope_parameters=dict(rope),
    )  # fmt: skip
    rotary = LlamaRotaryEmbedding(config)
    cos, sin = rotary(torch.zeros(1), torch.tensor([POSITIONS]))
    return {
        "inverse_frequencies": rotary.inv_freq.tolist(),
        "attention_factor": float(rotary.attention_scaling),
        "cos": cos[0].tolist(),
        "sin": sin[0].tolist(),
    }


def main():
    cases = [
        {"name": name, "head_dim": head_dim, "rope_parameters": rope} | answer(head_dim, rope)
        for name, (head_dim, rope) in CASES.items()
    ]
    made_with = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    content = {"made_with": made_with, "max_position_embeddings": MAX_POSITIONS, "positions": POSITIONS}
    FILE.parent.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(json.dumps(content)[:-1] + f', "cases": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
