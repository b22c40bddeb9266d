"""Converts tiny random models with `ssa convert` and compares what comes out, bit for bit, with what went in.

For Llama (plain, and tied with llama3 RoPE), Qwen2 (tied) and Qwen3 (yarn), in both dialects of config.json:
  directory -> directory            loads in transformers: same configuration, tensors and logits
  directory -> directory, bf16      the tensors rounded as PyTorch rounds them
  directory -> GGUF f32, bf16, q8_0 read by the gguf package: the tensors, llama's q and k rows permuted back
  GGUF f32 -> directory             loads in transformers: same tensors and logits

Usage: check_roundtrip.py PROGRAM
Needs: pip install transformers (4.57 or 5.x) gguf safetensors numpy, and torch
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import gguf
import numpy
import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

SIZES = {
    "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "vocab_size": 160, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "rms_norm_eps": 1e-5,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 64}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}
MODELS = {
    "llama": {"model_type": "llama", "architectures": ["LlamaForCausalLM"]},
    "llama3-tied": {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "rope_scaling": LLAMA3,
                    "tie_word_embeddings": True},
    "qwen2-tied": {"model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "tie_word_embeddings": True},
    "qwen3-yarn": {"model_type": "qwen3", "architectures": ["Qwen3ForCausalLM"], "rope_scaling": YARN},
}
GGUF_NAMES = {
    "model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output", "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}


def config_in(dialect, extra):
    config = SIZES | {"rope_theta": 20000.0, "hidden_act": "silu", "rope_scaling": None} | extra
    if dialect == "version 4":
        return config | {"torch_dtype": "float32"}
    scaling = config.pop("rope_scaling") or {"rope_type": "default"}
    return config | {"rope_parameters": scaling | {"rope_theta": config.pop("rope_theta")}, "dtype": "float32"}


def make_model(folder, config):
    """A random model; its config.json is ours, whichever dialect transformers writes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    torch.manual_seed(len(str(folder)))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.3)
    model.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(config))
    return model.eval()


def load(folder):
    model, info = AutoModelForCausalLM.from_pretrained(folder, dtype="auto", output_loading_info=True)
    wrong = {key: value for key, value in info.items() if value}
    assert not wrong, f"{folder}: {wrong}"
    return model.eval()


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(
        a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8))


def check_tensors(expected, found, what):
    assert expected.keys() == found.keys(), f"{what}: {expected.keys() ^ found.keys()}"
    for name, tensor in expected.items():
        assert same_bits(tensor, found[name]), f"{what}: {name} differs"


def logits(model):
    with torch.no_grad():
        return model(torch.arange(3, 40)[None]).logits


def meaning(folder):
    """The configuration as transformers reads it, without what belongs to the file."""
    config = AutoConfig.from_pretrained(folder).to_dict()
    return {key: value for key, value in config.items() if key not in ("_name_or_path", "transformers_version")}


def gguf_name(name):
    stem, _, suffix = name.rpartition(".")
    prefix = ""
    if stem.startswith("model.layers."):
        _, _, layer, stem = stem.split(".", 3)
        prefix = f"blk.{layer}."
    return f"{prefix}{GGUF_NAMES[stem]}.{suffix}"


def permuted(tensor, n_heads):
    """Rows as llama-architecture GGUF files order them: the halves of each head interleaved."""
    return tensor.reshape(n_heads, 2, -1, *tensor.shape[1:]).transpose(1, 2).reshape(tensor.shape)


def gguf_bytes(tensor, kind):
    if kind == gguf.GGMLQuantizationType.BF16:
        return tensor.to(torch.bfloat16).contiguous().view(torch.uint8).numpy().tobytes()
    return gguf.quants.quantize(tensor.numpy(), kind).tobytes()


def check_gguf(file, model, config, kind):
    found = {tensor.name: tensor for tensor in gguf.GGUFReader(file).tensors}
    state = dict(model.state_dict())
    if config.get("tie_word_embeddings"):
        state.pop("lm_head.weight")
    assert {gguf_name(name) for name in state} == found.keys() - {"rope_freqs.weight"}, sorted(found)
    for name, tensor in state.items():
        if config["model_type"] == "llama" and ("q_proj" in name or "k_proj" in name):
            tensor = permuted(tensor, config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"])
        stored = found[gguf_name(name)]
        expected_kind = kind if tensor.dim() == 2 else gguf.GGMLQuantizationType.F32
        assert stored.tensor_type == expected_kind, f"{file}: {name} is {stored.tensor_type}"
        assert stored.data.tobytes() == gguf_bytes(tensor, expected_kind), f"{file}: {name} differs"


def check_model(convert, folder, name, dialect, extra):
    config = config_in(dialect, extra)
    source = folder / "in"
    model = make_model(source, config)
    state, answer = model.state_dict(), logits(model)

    convert(source, folder / "same")
    copy = load(folder / "same")
    check_tensors(state, copy.state_dict(), "copy")
    assert same_bits(answer, logits(copy)), "copy: logits differ"
    assert meaning(source) == meaning(folder / "same"), "copy: configuration differs"

    convert(source, folder / "half", "bf16")
    check_tensors({key: value.to(torch.bfloat16) for key, value in state.items()}, load(folder / "half").state_dict(), "bf16")

    for kind in ("f32", "bf16", "q8_0"):
        convert(source, folder / f"{kind}.gguf", kind)
        check_gguf(folder / f"{kind}.gguf", model, config, gguf.GGMLQuantizationType[kind.upper()])
    convert(folder / "f32.gguf", folder / "back")
    back = load(folder / "back")
    check_tensors(state, back.state_dict(), "GGUF and back")
    assert same_bits(answer, logits(back)), "GGUF and back: logits differ"
    print(f"ok: {name}, {dialect}")


def main():
    transformers.utils.logging.disable_progress_bar()
    program = sys.argv[1]

    def convert(source, target, kind=None):
        subprocess.run([program, "convert", source, target] + (["--type", kind] if kind else []), check=True)

    print(f"transformers {transformers.__version__}, torch {torch.__version__}, numpy {numpy.__version__}")
    for name, extra in MODELS.items():
        for dialect in ("version 4", "version 5"):
            if dialect == "version 5" and int(transformers.__version__.split(".")[0]) < 5:
                continue
            with tempfile.TemporaryDirectory() as folder:
                check_model(convert, pathlib.Path(folder), name, dialect, extra)


if __name__ == "__main__":
    main()
