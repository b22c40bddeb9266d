"""Writes tiny random models and a tiny tokenizer as Hugging Face folders (numpy is enough)."""

import json
import os

import numpy

from layout import opens_a_word
from tensor_file import write_tensors

BASE_CONFIG = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "tie_word_embeddings": False,
    "torch_dtype": "float32",
    "rope_theta": 10000.0,
}

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "llama-nsa": "LlamaNSAForCausalLM",
}


def write_model(folder, model_type, vocab_size, seed, **changes):
    """A random model of the given shape. Weights are large enough that attention is not flat."""
    os.makedirs(folder, exist_ok=True)
    config = dict(BASE_CONFIG, model_type=model_type, architectures=[ARCHITECTURES[model_type]])
    config.update(vocab_size=vocab_size, **changes)
    with open(os.path.join(folder, "config.json"), "w") as file:
        json.dump(config, file, indent=1)
    tensors = random_tensors(config, numpy.random.default_rng(seed))
    write_tensors(os.path.join(folder, "model.safetensors"), tensors)
    return config


def random_tensors(config, generator):
    hidden, inner = config["hidden_size"], config["intermediate_size"]
    head_dim = config["head_dim"]
    q_size = config["num_attention_heads"] * head_dim
    kv_size = config["num_key_value_heads"] * head_dim

    def normal(*shape, scale):
        return (generator.standard_normal(shape) * scale).astype(numpy.float32)

    def norm_weight(size):
        return (1 + 0.1 * generator.standard_normal(size)).astype(numpy.float32)

    tensors = {
        "model.embed_tokens.weight": normal(config["vocab_size"], hidden, scale=1.0),
        "model.norm.weight": norm_weight(hidden),
    }
    if not config["tie_word_embeddings"]:
        tensors["lm_head.weight"] = normal(config["vocab_size"], hidden, scale=0.2)
    for layer in range(config["num_hidden_layers"]):
        name = f"model.layers.{layer}."
        tensors[name + "input_layernorm.weight"] = norm_weight(hidden)
        tensors[name + "post_attention_layernorm.weight"] = norm_weight(hidden)
        tensors[name + "self_attn.q_proj.weight"] = normal(q_size, hidden, scale=0.2)
        tensors[name + "self_attn.k_proj.weight"] = normal(kv_size, hidden, scale=0.2)
        tensors[name + "self_attn.v_proj.weight"] = normal(kv_size, hidden, scale=0.2)
        tensors[name + "self_attn.o_proj.weight"] = normal(hidden, q_size, scale=0.1)
        tensors[name + "mlp.gate_proj.weight"] = normal(inner, hidden, scale=0.1)
        tensors[name + "mlp.up_proj.weight"] = normal(inner, hidden, scale=0.1)
        tensors[name + "mlp.down_proj.weight"] = normal(hidden, inner, scale=0.1)
        if config["model_type"] == "qwen2":
            for part, size in (("q", q_size), ("k", kv_size), ("v", kv_size)):
                tensors[name + f"self_attn.{part}_proj.bias"] = normal(size, scale=0.3)
        if config["model_type"] == "qwen3":
            tensors[name + "self_attn.q_norm.weight"] = norm_weight(head_dim)
            tensors[name + "self_attn.k_norm.weight"] = norm_weight(head_dim)
        if config["model_type"] == "llama-nsa":
            gates = 3 * config["num_attention_heads"]
            tensors[name + "self_attn.g_proj.weight"] = normal(gates, hidden, scale=0.3)
    return tensors


# ------------------------------------------------------------------ tokenizer

# Merges, in order of rank: tokens that open a word, and some that only look as if they did.
MERGES = [
    (" ", "a"), (" ", "the"), ("t", "h"), ("th", "e"), ("\n", "\n"), (".", "."), ("-", "-"),
    ("\u2014", "x"), ("(", "f"), ("\u00e9", "t"), ("_", "a"), ("\u00a0", "b"), ("/", "/"),
    ("'", "s"),
]  # fmt: skip


def byte_alphabet():
    """byte -> the printable character that stands for it in byte-level BPE vocabularies."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    alphabet = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in alphabet:
            alphabet[byte] = chr(256 + len(alphabet) - len(printable))
    return alphabet


class TinyTokenizer:
    """Byte-level BPE: 256 bytes, a few merges, then the special tokens BOS and the three gists.

    `texts[id]` is the text of one token decoded alone.
    """

    def __init__(self):
        alphabet = byte_alphabet()
        self.vocab = {alphabet[byte]: byte for byte in range(256)}
        self.texts = [bytes([byte]).decode(errors="replace") for byte in range(256)]
        self.merges = []
        for left, right in self._complete_merges():
            self.merges.append([spelled_part(left, alphabet), spelled_part(right, alphabet)])
            whole = left + right
            if spelled_part(whole, alphabet) not in self.vocab:
                self.vocab[spelled_part(whole, alphabet)] = len(self.texts)
                self.texts.append(whole.decode(errors="replace"))
        self.bos_id = len(self.texts)
        self.special = ["<s>", "<gist>", "<Gist>", "<MGist>"]
        self.texts += self.special
        self.gist_ids = [self.bos_id + 1, self.bos_id + 2, self.bos_id + 3]

    def _complete_merges(self):
        """Merges over bytes: characters of several bytes are put together first."""
        pairs = []
        for left, right in MERGES:
            for part in (left, right):
                whole = part.encode()
                for end in range(2, len(whole) + 1):
                    pair = (whole[: end - 1], whole[end - 1 : end])
                    if pair not in pairs:
                        pairs.append(pair)
            if (left.encode(), right.encode()) not in pairs:
                pairs.append((left.encode(), right.encode()))
        return pairs

    @property
    def size(self):
        return len(self.texts)

    def raw_ids(self, word_opener):
        """Ids of ordinary tokens that open a word, or that do not."""
        return [i for i in range(self.bos_id) if opens_a_word(self.texts[i]) == word_opener]

    def write(self, folder):
        added = [
            {"id": self.bos_id + i, "content": text, "single_word": False, "lstrip": False,
             "rstrip": False, "normalized": False, "special": True}
            for i, text in enumerate(self.special)
        ]  # fmt: skip
        level = {
            "type": "ByteLevel",
            "add_prefix_space": False,
            "trim_offsets": True,
            "use_regex": True,
        }
        model = {
            "type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
            "ignore_merges": False, "vocab": self.vocab, "merges": self.merges,
        }  # fmt: skip
        content = {
            "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
            "normalizer": None, "pre_tokenizer": level, "post_processor": None, "decoder": level,
            "model": model,
        }  # fmt: skip
        with open(os.path.join(folder, "tokenizer.json"), "w") as file:
            json.dump(content, file, ensure_ascii=False)
        with open(os.path.join(folder, "tokenizer_config.json"), "w") as file:
            json.dump({"bos_token": "<s>", "tokenizer_class": "PreTrainedTokenizerFast"}, file)


def spelled_part(data, alphabet):
    return "".join(alphabet[byte] for byte in data)
