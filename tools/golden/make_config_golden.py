"""Writes tests/golden/configs/configs.json: config.json contents in both dialects, and what transformers makes of them.

Needs: pip install transformers (5.x; torch is not needed)
"""

import json
import pathlib
import tempfile

import transformers
from transformers import AutoConfig

FILE = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/configs/configs.json"

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 30, "num_attention_heads": 9, "num_key_value_heads": 3, "hidden_act": "silu",
    "max_position_embeddings": 8192, "rms_norm_eps": 1e-05, "vocab_size": 49152,
}
QWEN2 = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864,
    "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2, "hidden_act": "silu",
    "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "vocab_size": 151936,
}
QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072,
    "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 128,
    "hidden_act": "silu", "max_position_embeddings": 40960, "rms_norm_eps": 1e-06, "vocab_size": 151936,
}
LLAMA3_SCALING = {
    "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}


def without(config, *keys):
    return {key: value for key, value in config.items() if key not in keys}


CASES = {
    "llama, version 4": LLAMA | {
        "rope_theta": 100000, "rope_scaling": None, "torch_dtype": "bfloat16", "tie_word_embeddings": True,
        "bos_token_id": 1, "eos_token_id": 2},
    "llama, version 5": LLAMA | {
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"}, "dtype": "bfloat16", "head_dim": 64,
        "tie_word_embeddings": True},
    "llama3 scaling, version 4": LLAMA | {
        "rope_theta": 500000.0, "rope_scaling": LLAMA3_SCALING | {"rope_type": "llama3"}, "head_dim": 64,
        "max_position_embeddings": 131072, "torch_dtype": "float16", "eos_token_id": [128001, 128008, 128009],
        "bos_token_id": 128000},
    "llama3 scaling, version 5": LLAMA | {
        "rope_parameters": LLAMA3_SCALING | {"rope_type": "llama3", "rope_theta": 500000.0},
        "max_position_embeddings": 131072, "dtype": "float32"},
    "old key type": LLAMA | {"rope_scaling": {"type": "linear", "factor": 2.5}, "rope_theta": 20000.0},
    "defaults": without(LLAMA, "num_key_value_heads", "rms_norm_eps", "max_position_embeddings", "hidden_act"),
    "no end of text": LLAMA | {"bos_token_id": None, "eos_token_id": None},
    "null sizes": LLAMA | {"head_dim": None, "num_key_value_heads": None},
    "biases": LLAMA | {"attention_bias": True, "mlp_bias": True},
    "both dialects": LLAMA | {
        "rope_theta": 1000.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 2000.0}, "torch_dtype": "float16",
        "dtype": "bfloat16"},
    "qwen2": QWEN2 | {
        "rope_theta": 1000000.0, "sliding_window": 32768, "use_sliding_window": False, "max_window_layers": 24,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "bos_token_id": 151643, "eos_token_id": 151645},
    "qwen2, version 5": QWEN2 | {
        "rope_parameters": {"rope_theta": 1000000.0, "rope_type": "default"}, "layer_types": ["full_attention"] * 24,
        "use_sliding_window": False, "sliding_window": None, "dtype": "bfloat16"},
    "qwen2, windows beyond the last layer": QWEN2 | {"use_sliding_window": True, "max_window_layers": 24},
    "qwen2, yarn": QWEN2 | {
        "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
        "rope_theta": 1000000.0},
    "qwen3": QWEN3 | {
        "rope_theta": 1000000, "attention_bias": False, "use_sliding_window": False, "sliding_window": None,
        "max_window_layers": 28, "tie_word_embeddings": True, "rope_scaling": None, "torch_dtype": "bfloat16",
        "eos_token_id": 151645, "bos_token_id": 151643},
    "qwen3, yarn with all its keys": without(QWEN3, "head_dim") | {
        "attention_bias": True,
        "rope_parameters": {
            "rope_type": "yarn", "rope_theta": 1000000.0, "factor": 4.0, "beta_fast": 16.0, "beta_slow": 2.0,
            "mscale": 1.0, "mscale_all_dim": 0.5, "attention_factor": 1.25, "truncate": False}},
}


def meaning(config):
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(config))
        parsed = AutoConfig.from_pretrained(folder)
    eos = parsed.eos_token_id
    is_qwen2 = parsed.model_type == "qwen2"
    attention_bias = is_qwen2 or parsed.attention_bias
    head_dim = getattr(parsed, "head_dim", None) or parsed.hidden_size // parsed.num_attention_heads
    return {
        "hidden_size": parsed.hidden_size, "intermediate_size": parsed.intermediate_size,
        "n_layers": parsed.num_hidden_layers, "n_heads": parsed.num_attention_heads,
        "n_kv_heads": parsed.num_key_value_heads, "head_dim": head_dim, "vocab_size": parsed.vocab_size,
        "max_position_embeddings": parsed.max_position_embeddings, "rms_norm_eps": parsed.rms_norm_eps,
        "tie_word_embeddings": parsed.tie_word_embeddings, "attention_bias": attention_bias,
        "attention_output_bias": attention_bias and not is_qwen2, "mlp_bias": getattr(parsed, "mlp_bias", False),
        "rope": parsed.rope_parameters, "dtype": str(parsed.dtype).removeprefix("torch.") if parsed.dtype else None,
        "bos_token_id": parsed.bos_token_id, "eos_token_ids": eos if isinstance(eos, list) else [eos] * (eos is not None),
    }


def main():
    cases = [{"name": name, "config": config, "expected": meaning(config)} for name, config in CASES.items()]
    FILE.parent.mkdir(parents=True, exist_ok=True)
    content = {"made_with": f"transformers {transformers.__version__}", "cases": cases}
    FILE.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
