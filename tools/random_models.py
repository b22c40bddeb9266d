"""Tiny random models as Hugging Face directories: one shape for each thing that tells the architectures apart."""

import json

import torch
import transformers
from safetensors.torch import save_file

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}
LINEAR = {"rope_type": "linear", "factor": 4.0}
DEFAULT = {"rope_type": "default"}

# (heads, key/value heads, head_dim), hidden size, RoPE, and what else stands in config.json.
SHAPES = {
    "llama-mha": ("llama", (2, 2, 32), 64, DEFAULT, {}),
    "llama-gqa3-tied-llama3": ("llama", (6, 2, 32), 48, LLAMA3, {"tie_word_embeddings": True}),
    "llama-mqa-yarn": ("llama", (4, 1, 32), 32, YARN, {"attention_bias": True, "mlp_bias": True}),
    "qwen2-gqa7-tied": ("qwen2", (14, 2, 32), 28, DEFAULT, {"tie_word_embeddings": True}),
    "qwen2-linear": ("qwen2", (4, 2, 32), 32, LINEAR, {}),
    "qwen3-gqa2": ("qwen3", (4, 2, 48), 32, DEFAULT, {}),
    "llama-nsa": ("llama-nsa", (6, 2, 32), 48, DEFAULT, {"block_size": 16, "block_counts": 4, "window_size": 0}),
}  # fmt: skip
CLASSES = {"llama": "LlamaForCausalLM", "qwen2": "Qwen2ForCausalLM", "qwen3": "Qwen3ForCausalLM",
           "llama-nsa": "LlamaNSAForCausalLM"}
MAX_POSITIONS = 512

transformers.utils.logging.disable_progress_bar()


def make_config(name, dialect=5, scale=1, n_layers=2, vocab_size=101):
    """config.json's content, as transformers 4 or 5 spells it. `scale` widens the hidden sizes."""
    model_type, (n_heads, n_kv_heads, head_dim), hidden, rope, extra = SHAPES[name]
    config = {
        "architectures": [CLASSES[model_type]], "model_type": model_type, "hidden_size": hidden * scale,
        "intermediate_size": 48 * scale, "num_hidden_layers": n_layers, "num_attention_heads": n_heads,
        "num_key_value_heads": n_kv_heads, "hidden_act": "silu", "max_position_embeddings": MAX_POSITIONS,
        "rms_norm_eps": 1e-5, "vocab_size": vocab_size, "bos_token_id": 1, "eos_token_id": 2,
        "tie_word_embeddings": False, **extra,
    }  # fmt: skip
    if n_heads * head_dim != hidden * scale:
        config["head_dim"] = head_dim
    if dialect == 5:
        return config | {"rope_parameters": rope | {"rope_theta": 10000.0}, "dtype": "float32"}
    scaling = None if rope is DEFAULT else rope
    return config | {"rope_theta": 10000.0, "rope_scaling": scaling, "torch_dtype": "float32"}


def random_weight(name, shape):
    """Large enough that attention is not flat; values that bfloat16 holds, so that files may be BF16."""
    noise = torch.randn(shape)
    if "norm" in name:
        weight = 1 + 0.2 * noise
    elif name.endswith("bias"):
        weight = 0.3 * noise
    elif "embed_tokens" in name:
        weight = 2 * noise / shape[-1] ** 0.5  # logits of ten or so where it is tied
    else:
        gain = 1.5 if "q_proj" in name or "k_proj" in name else 1.0
        weight = gain * noise / shape[-1] ** 0.5
    return weight.to(torch.bfloat16).float()


def make_model(folder, config, seed, dtype=torch.float32):
    """Writes config.json and model.safetensors (weights in `dtype`)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    model_type = config["model_type"].removesuffix("-nsa")
    known = transformers.AutoConfig.for_model(**(config | {"model_type": model_type}))
    with torch.device("meta"):
        shapes = transformers.AutoModelForCausalLM.from_config(known).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in shapes.items()}
    if config["tie_word_embeddings"]:
        del shapes["lm_head.weight"]
    if config["model_type"] == "llama-nsa":
        for layer in range(config["num_hidden_layers"]):
            gate = (3 * config["num_attention_heads"], config["hidden_size"])
            shapes[f"model.layers.{layer}.self_attn.g_proj.weight"] = gate
    torch.manual_seed(seed)
    tensors = {name: random_weight(name, shape).to(dtype) for name, shape in sorted(shapes.items())}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def load(folder, dtype=torch.float32):
    """The model in transformers, attention spelled out in plain operations."""
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", output_loading_info=True
    )
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def random_ids(config, n_tokens, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, config["vocab_size"], (n_tokens,), generator=generator)
