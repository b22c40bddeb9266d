#!/usr/bin/env python3
"""Compares adapters with transformers + peft on the same files: full attention, float32, both directions.

    pip install -r tools/requirements.txt
    python tools/compare_peft.py build/ssa [--gguf SMOLLM2.gguf]

peft's   random Llama and Qwen2, tied and untied: peft makes and saves the adapter, `ssa logits --adapter` reads it
ours     the same models: `ssa train` makes it in two steps, peft loads it onto the base extended by three rows
merged   `ssa convert --adapter`: transformers alone, on the files that come out
--gguf   the real model, by an adapter of peft's
Logits of all rows and tokens, gists' among them, may differ by 1e-4. Exit code 1 if the bar is missed.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import load_file

MAX_DIFFERENCE = 1e-4
N_TOKENS = 96
N_GISTS = 3
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ROOT = pathlib.Path(__file__).resolve().parent.parent
N_TEXT = 703  # tokens of the tokenizer; tables with more rows have padding, which merging cuts
SHAPES = {
    "llama, tied": ("Llama", True, N_TEXT),
    "llama": ("Llama", False, N_TEXT + 17),
    "qwen2, tied": ("Qwen2", True, N_TEXT + 17),
    "qwen2": ("Qwen2", False, N_TEXT),
}

RECIPE = """
[job]
output = "{out}"
[model]
path = "{base}"
dtype = "f32"
device = "cpu"
[adapter]
rank = 4
alpha = 6
targets = ["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]
[data]
sources = ["{data}"]
seq_len = 128
suffix_min = 16
suffix_max = 32
[objective]
cpt = 1.0
[optimizer]
lr = 0.05
[training]
steps = 2
global_batch_size = 2
[metrics]
tensorboard = false
"""


def make_base(folder, kind, tied, vocab_size):
    torch.manual_seed(3)
    config = getattr(transformers, kind + "Config")(
        vocab_size=vocab_size, hidden_size=48, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=512, tie_word_embeddings=tied, bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    model = getattr(transformers, kind + "ForCausalLM")(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(folder)
    tokenizer = ROOT / "tests/golden/tokenizer/smollm2.json"
    (folder / "tokenizer.json").write_text(tokenizer.read_text())


def load_base(folder, extended=True):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if extended:
        model.resize_token_embeddings(model.config.vocab_size + N_GISTS, mean_resizing=False)
    return model


def make_peft_adapter(folder, base, tied):
    n = base.config.vocab_size - N_GISTS
    rows = [n + i for i in range(N_GISTS)]
    indices = rows if tied else {"embed_tokens": rows, "lm_head": rows}
    config = peft.LoraConfig(
        r=8, lora_alpha=20, target_modules=LAYERS, trainable_token_indices=indices, task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(base, config)
    torch.manual_seed(5)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "trainable_tokens_delta" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder, save_embedding_layers=False)
    return model


def our_logits(program, model, ids, scratch, *flags):
    ids_file, out = scratch / "ids.json", scratch / "out.safetensors"
    ids_file.write_text(json.dumps(ids))
    command = [program, "logits", str(model), "--ids", str(ids_file), "--out", str(out), *flags]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    return load_file(out)["logits"]


def random_ids(vocab_size):
    """Text, and gists now and then: the last rows of an extended vocabulary."""
    torch.manual_seed(1)
    ids = torch.randint(0, N_TEXT, [N_TOKENS])
    ids[9::9] = torch.arange(len(ids[9::9])) % N_GISTS + vocab_size - N_GISTS
    return ids.tolist()


class Comparison:
    def __init__(self):
        self.passed = True
        print(f"logits, float32, {N_TOKENS} tokens: largest difference from peft {peft.__version__}")

    def add(self, name, ours, model, ids):
        with torch.no_grad():
            theirs = model(torch.tensor([ids])).logits[0]
        difference = (ours - theirs).abs().max().item() if ours.shape == theirs.shape else float("inf")
        self.passed = self.passed and difference <= MAX_DIFFERENCE
        print(f"{name:<24} {theirs.abs().max().item():>10.2f} {difference:>10.1e}", flush=True)


def compare_shape(comparison, program, name, scratch):
    kind, tied, vocab_size = SHAPES[name]
    base, theirs, data = scratch / "base", scratch / "peft", scratch / "data"
    make_base(base, kind, tied, vocab_size)
    model = make_peft_adapter(theirs, load_base(base), tied)
    ids = random_ids(model.config.vocab_size)
    comparison.add(f"{name}: peft's", our_logits(program, base, ids, scratch, "--adapter", str(theirs)), model, ids)

    subprocess.run([program, "data", "build", str(base), "--input", str(ROOT / "examples/expedition_log.txt"),
                    "--out", str(data)], check=True, capture_output=True)  # fmt: skip
    recipe = scratch / "recipe.toml"
    recipe.write_text(RECIPE.format(out=scratch / "run", base=base, data=data))
    run = subprocess.run([program, "train", str(recipe)], check=True, capture_output=True, text=True)
    ours = run.stdout.strip().splitlines()[-1]
    model = peft.PeftModel.from_pretrained(load_base(base), ours)
    logits = our_logits(program, base, ids, scratch, "--adapter", ours)
    comparison.add(f"{name}: ours", logits, model, ids)

    merged = scratch / "merged"
    subprocess.run([program, "convert", str(base), str(merged), "--adapter", ours], check=True, capture_output=True)
    kept = list(range(N_TEXT)) + list(range(vocab_size, vocab_size + N_GISTS))
    comparison.add(f"{name}: merged", logits[:, kept], load_base(merged, extended=False), [kept.index(i) for i in ids])


def compare_gguf(comparison, program, gguf, scratch):
    base, theirs = scratch / "gguf-base", scratch / "gguf-peft"
    subprocess.run([program, "convert", gguf, str(base)], check=True, capture_output=True)
    model = make_peft_adapter(theirs, load_base(base), True)
    ids = random_ids(model.config.vocab_size)
    comparison.add("the GGUF: peft's", our_logits(program, gguf, ids, scratch, "--adapter", str(theirs)), model, ids)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--gguf")
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    program = str(pathlib.Path(arguments.program).resolve())
    comparison = Comparison()
    for name in SHAPES:
        with tempfile.TemporaryDirectory() as scratch:
            compare_shape(comparison, program, name, pathlib.Path(scratch))
    if arguments.gguf:
        with tempfile.TemporaryDirectory() as scratch:
            compare_gguf(comparison, program, arguments.gguf, pathlib.Path(scratch))
    sys.exit(not comparison.passed)


if __name__ == "__main__":
    main()
