#!/usr/bin/env python3
"""Makes tests/golden/gguf with the gguf package (see README.md there). Usage: make_gguf_golden.py [FOLDER]

blocks.gguf    one tensor [2, 256] per type, random blocks; "quantise.input" F32 and "quantise.expected" Q8_0
blocks.f32     those tensors dequantised by gguf.quants, in the file's order, F32
values.gguf    one key per value type, and nested arrays
model.gguf     a llama of one layer with a different type per matrix, q and k permuted as llama.cpp's converter does
model.json     its configuration, and per Hugging Face name shape and FNV-1a hash of the dequantised floats
"""

import json
import pathlib
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import dequantize, quantize

# Where a block's half-precision numbers lie, so that they can be made finite.
HALVES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}
PLAIN = {Type.F32: np.float32, Type.F16: np.float16}


def random_blocks(rng, qtype, n_rows, row_size):
    """Random bytes of that type with scales that are finite: large, small, subnormal, negative and zero ones."""
    block_size, block_bytes = gguf.GGML_QUANT_SIZES[qtype]
    blocks = rng.integers(0, 256, (n_rows * row_size // block_size, block_bytes), dtype=np.uint8)
    for offset in HALVES[qtype]:
        scales = (rng.standard_normal(len(blocks)) * 10.0 ** rng.integers(-7, 4, len(blocks))).astype(np.float16)
        scales[0] = 0
        blocks[:, offset:offset + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.reshape(n_rows, -1)


def quantisation_cases(rng):
    """Rows of 32 that meet every branch of Q8_0: halves to round, zeros, signs, subnormals, wide ranges."""
    rows = [rng.standard_normal(32) * 10.0 ** e for e in range(-38, 5)]
    rows.append(np.zeros(32))
    rows.append(np.full(32, -0.0))
    rows.append(np.array([127.0] + [i + 0.5 for i in range(31)]))
    rows.append(-np.array([127.0] + [i + 0.5 for i in range(31)]))
    rows.append(np.array([254.0] + [i + 1.0 for i in range(31)]))
    rows.append(np.array([1e-44] * 32))
    rows.append(rng.uniform(-65504, 65504, 32))
    return np.array(rows, dtype=np.float32)


def write(path, arch, fill):
    writer = gguf.GGUFWriter(path, arch)
    fill(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_blocks(folder, rng):
    expected = []

    def fill(writer):
        for qtype in [*PLAIN, Type.BF16, *HALVES]:
            if qtype in PLAIN:
                data = rng.standard_normal((2, 256)).astype(PLAIN[qtype])
                expected.append(data.astype(np.float32))
            else:
                blocks = quantize(rng.standard_normal((2, 256), dtype=np.float32), qtype) if qtype == Type.BF16 \
                    else random_blocks(rng, qtype, 2, 256)
                data = blocks.view(np.uint8)
                expected.append(dequantize(data, qtype))
            writer.add_tensor(qtype.name, data, raw_dtype=qtype)
        cases = quantisation_cases(rng)
        writer.add_tensor("quantise.input", cases)
        writer.add_tensor("quantise.expected", quantize(cases, Type.Q8_0), raw_dtype=Type.Q8_0)

    write(folder / "blocks.gguf", "blocks", fill)
    np.concatenate([e.ravel() for e in expected]).astype(np.float32).tofile(folder / "blocks.f32")


def make_values(folder):
    value = gguf.GGUFValueType

    def fill(writer):
        writer.add_key_value("u8", 200, value.UINT8)
        writer.add_key_value("i8", -100, value.INT8)
        writer.add_key_value("u16", 60000, value.UINT16)
        writer.add_key_value("i16", -30000, value.INT16)
        writer.add_key_value("u32", 4000000000, value.UINT32)
        writer.add_key_value("i32", -2000000000, value.INT32)
        writer.add_key_value("f32", 1e-5, value.FLOAT32)
        writer.add_key_value("bool", True, value.BOOL)
        writer.add_key_value("string", "naïve\n", value.STRING)
        writer.add_key_value("u64", 2**63 - 1, value.UINT64)
        writer.add_key_value("huge", 2**63, value.UINT64)
        writer.add_key_value("i64", -2**62, value.INT64)
        writer.add_key_value("f64", 0.1, value.FLOAT64)
        writer.add_array("strings", ["a", "", "ü"])
        writer.add_array("integers", [3, -1, 2])
        writer.add_array("nested", [[1, 2], [3], [4, 5, 6]])
        writer.add_key_value("last", 7, value.UINT32)

    write(folder / "values.gguf", "values", fill)


def fnv1a(data):
    state = 0xCBF29CE484222325
    for byte in data:
        state = (state ^ byte) * 0x100000001B3 % 2**64
    return f"{state:016x}"


def permute(weights, n_heads):
    """llama.cpp's order of the rows of q and k."""
    return weights.reshape(n_heads, 2, -1, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def make_model(folder, rng):
    hidden, inner, n_heads, n_kv_heads, head_dim, vocab = 32, 64, 2, 1, 32, 48
    tensors = {  # GGUF name: Hugging Face name, shape, type, heads to permute
        "token_embd.weight": ("model.embed_tokens.weight", (vocab, hidden), Type.Q8_0, 0),
        "blk.0.attn_norm.weight": ("model.layers.0.input_layernorm.weight", (hidden,), Type.F32, 0),
        "blk.0.attn_q.weight": ("model.layers.0.self_attn.q_proj.weight", (n_heads * head_dim, hidden), Type.Q4_1,
                                n_heads),
        "blk.0.attn_k.weight": ("model.layers.0.self_attn.k_proj.weight", (n_kv_heads * head_dim, hidden), Type.BF16,
                                n_kv_heads),
        "blk.0.attn_v.weight": ("model.layers.0.self_attn.v_proj.weight", (n_kv_heads * head_dim, hidden), Type.F16, 0),
        "blk.0.attn_output.weight": ("model.layers.0.self_attn.o_proj.weight", (hidden, n_heads * head_dim), Type.Q4_0,
                                     0),
        "blk.0.ffn_norm.weight": ("model.layers.0.post_attention_layernorm.weight", (hidden,), Type.F32, 0),
        "blk.0.ffn_gate.weight": ("model.layers.0.mlp.gate_proj.weight", (inner, hidden), Type.Q5_0, 0),
        "blk.0.ffn_up.weight": ("model.layers.0.mlp.up_proj.weight", (inner, hidden), Type.Q5_1, 0),
        "blk.0.ffn_down.weight": ("model.layers.0.mlp.down_proj.weight", (hidden, inner), Type.Q4_0, 0),
        "output_norm.weight": ("model.norm.weight", (hidden,), Type.F32, 0),
    }
    expected = {}

    def fill(writer):
        writer.add_block_count(1)
        writer.add_context_length(256)
        writer.add_embedding_length(hidden)
        writer.add_feed_forward_length(inner)
        writer.add_head_count(n_heads)
        writer.add_head_count_kv(n_kv_heads)
        writer.add_key_length(head_dim)
        writer.add_layer_norm_rms_eps(1e-5)
        writer.add_rope_freq_base(10000.0)
        writer.add_file_type(3)
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        tokens = ["<|endoftext|>", "<|im_start|>", *"abcdefghijklmnopqrstuvwxyz", "Ġ", "th", "the", "Ġthe", "<tool>"]
        tokens += [f"[PAD{i}]" for i in range(len(tokens), vocab)]
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3] + [1] * 30 + [4] + [5] * (vocab - 33))
        writer.add_token_merges(["t h", "th e", "Ġ the"])
        writer.add_bos_token_id(1)
        writer.add_eos_token_id(0)
        writer.add_add_bos_token(True)
        writer.add_chat_template("{{ messages }}")
        for name, (hf_name, shape, qtype, n_permuted) in tensors.items():
            weights = rng.standard_normal(shape, dtype=np.float32)
            weights = permute(weights, n_permuted) if n_permuted else weights
            data = quantize(weights, qtype)
            writer.add_tensor(name, data, raw_dtype=qtype)
            stored = dequantize(data, qtype).reshape(shape)
            if n_permuted:
                stored = stored.reshape(n_permuted, -1, 2, *shape[1:]).swapaxes(1, 2).reshape(shape)
            expected[hf_name] = {"shape": list(shape), "hash": fnv1a(stored.astype("<f4").tobytes())}

    write(folder / "model.gguf", "llama", fill)
    (folder / "model.json").write_text(json.dumps(expected, indent=1) + "\n")


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/gguf")
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(20)
    with np.errstate(over="ignore", invalid="ignore"):
        make_blocks(folder, rng)
    make_values(folder)
    make_model(folder, rng)
    from importlib.metadata import version
    (folder / "README.md").write_text(
        f"Made by tools/golden/make_gguf_golden.py with gguf {version('gguf')}, numpy {np.__version__}.\n")


if __name__ == "__main__":
    main()
