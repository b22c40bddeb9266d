#!/usr/bin/env python3
"""Compares `ssa` with transformers: logits of random models, greedy continuations and decode speed of a real one.

    pip install transformers==5.17.0 safetensors gguf accelerate, and torch 2.13
    python tools/compare_transformers.py build/ssa [--gguf SMOLLM2.gguf] [--parts logits,greedy,speed] [--threads 2]

logits   six random shapes, 512 tokens, at once and one by one from 256 on        difference <= 1e-4
greedy   20 prompts x 64 tokens of the GGUF, float32                              identical, or a tie below 1e-4
speed    decode steps/s, float32 and bfloat16, in turns, median of 3  >= 1.2 x transformers
Exit code 1 if a bar is missed. llama-nsa, which transformers does not know, is left to the golden files.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import time

import torch
import transformers
from random_models import SHAPES, load, make_config, make_model, random_ids
from safetensors.torch import load_file

MAX_DIFFERENCE = 1e-4
MIN_SPEED_RATIO = 1.2
N_TOKENS, DECODE_FROM = 512, 256
N_GREEDY = 64
N_SPEED = 64

PROMPTS = [
    "The capital of France is", "Once upon a time", "def fibonacci(n):", "The three laws of thermodynamics",
    "Q: What is the boiling point of water?\nA:", "In 1969, two astronauts", "The recipe calls for two eggs,",
    "1, 1, 2, 3, 5, 8, 13,", "Dear Sir or Madam,", "She opened the door and", "Photosynthesis is the process",
    "import numpy as np\n", "The best way to learn a language", "Es war einmal ein König,", "La révolution française",
    "Shakespeare wrote", "To be, or not to be:", "Water consists of", "<p>Hello <b>world</b>", "The quick brown fox",
]  # fmt: skip


# ------------------------------------------------------------------ logits


def our_logits(program, folder, ids, flags):
    with tempfile.TemporaryDirectory() as scratch:
        ids_file, out = pathlib.Path(scratch, "ids.json"), pathlib.Path(scratch, "out.safetensors")
        ids_file.write_text(json.dumps(ids.tolist()))
        command = [program, "logits", str(folder), "--ids", str(ids_file), "--out", str(out), *flags]
        subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
        return load_file(out)["logits"]


def compare_logits(program):
    print(f"logits, float32, {N_TOKENS} tokens: largest difference from transformers {transformers.__version__}")
    print(f"{'model':<24} {'largest logit':>14} {'whole':>10} {'decoded':>10}")
    passed = True
    for seed, name in enumerate(SHAPES):
        if name == "llama-nsa":
            continue
        with tempfile.TemporaryDirectory() as scratch:
            folder = pathlib.Path(scratch)
            config = make_config(name, dialect=4 + seed % 2, scale=4, n_layers=4, vocab_size=1000)
            make_model(folder, config, seed)
            ids = random_ids(config, N_TOKENS, seed)
            with torch.no_grad():
                expected = load(folder)(ids[None]).logits[0]
            gaps = [
                (our_logits(program, folder, ids, flags) - expected).abs().max().item()
                for flags in ([], ["--decode-from", str(DECODE_FROM)])
            ]
        print(f"{name:<24} {expected.abs().max():>14.2f} {gaps[0]:>10.1e} {gaps[1]:>10.1e}", flush=True)
        passed &= max(gaps) <= MAX_DIFFERENCE  # false for NaN
    return passed


# ------------------------------------------------------------------ greedy


def load_gguf(path, dtype):
    folder, file = os.path.split(os.path.abspath(path))
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=file)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=dtype)
    model.generation_config.eos_token_id = None  # else it fills in what a call leaves open
    return tokenizer, model.eval()


def greedy(model, ids, n_tokens, **more):
    """generate() in its default form; end-of-sequence tokens are tokens like others."""
    config = transformers.GenerationConfig(do_sample=False, max_new_tokens=n_tokens, pad_token_id=0)
    with torch.no_grad():
        return model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config, **more)


def our_text(program, gguf, prompt, n_tokens, dtype="f32"):
    """(text without the final newline, report on standard error)."""
    command = [program, "generate", gguf, "-p", prompt, "-n", str(n_tokens), "--ignore-eos", "--dtype", dtype]
    command += ["-t", str(torch.get_num_threads())]
    result = subprocess.run(command, check=True, capture_output=True)
    return result.stdout.decode().removesuffix("\n"), result.stderr.decode()


def gap_at_difference(tokenizer, answer, scores, ours):
    """Where the texts part, and how far apart the two likeliest logits were there."""
    texts = [tokenizer.decode(answer[: i + 1], skip_special_tokens=True) for i in range(len(answer))]
    # The first token whose text ours does not follow; a text that ends within a character is not comparable.
    at = next(i for i, text in enumerate(texts) if not text.endswith("\ufffd") and not ours.startswith(text))
    best = scores[at][0].topk(2).values
    return at, (best[0] - best[1]).item()


def compare_greedy(program, gguf):
    tokenizer, model = load_gguf(gguf, torch.float32)
    print(f"greedy, {pathlib.Path(gguf).name}, float32: {len(PROMPTS)} prompts x {N_GREEDY} tokens")
    n_same, passed = 0, True
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        out = greedy(model, ids, N_GREEDY, output_logits=True, return_dict_in_generate=True)
        answer = out.sequences[0, ids.shape[1] :]
        assert len(answer) == N_GREEDY, f"transformers stopped after {len(answer)} tokens"
        theirs = tokenizer.decode(answer, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        ours, _ = our_text(program, gguf, prompt, N_GREEDY)
        if ours == theirs:
            n_same += 1
            print(f"  {prompt!r} identical", flush=True)
            continue
        at, gap = gap_at_difference(tokenizer, answer, out.logits, ours)
        passed &= gap < MAX_DIFFERENCE
        print(f"  {prompt!r} parts at token {at}, where the best two logits are {gap:.1e} apart", flush=True)
        print(f"    ours   {ours!r}\n    theirs {theirs!r}")
    print(f"{n_same} of {len(PROMPTS)} identical")
    return passed


# ------------------------------------------------------------------ speed


def our_speed(program, gguf, dtype):
    """Decode steps a second; the first token's forward pass is the prompt's."""
    _, report = our_text(program, gguf, PROMPTS[0], N_SPEED, dtype)
    n_tokens, seconds = re.search(r"decode: (\d+) tokens, ([\d.]+) s", report).groups()
    return (int(n_tokens) - 1) / float(seconds)


class StepClock(transformers.StoppingCriteria):
    """Asked after every token; notes when the first one was there."""

    def __init__(self):
        self.first = None

    def __call__(self, input_ids, scores, **_):
        self.first = self.first or time.perf_counter()
        return torch.zeros(input_ids.shape[0], dtype=torch.bool)


def loop_speed(model, ids):
    """The plainest loop over the model and its cache, without generate()'s bookkeeping."""
    with torch.inference_mode():
        out = model(ids, use_cache=True)
        start = time.perf_counter()
        for _ in range(N_SPEED - 1):
            token = out.logits[:, -1:].argmax(-1)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
    return (N_SPEED - 1) / (time.perf_counter() - start)


def generate_speed(model, ids):
    clock = StepClock()
    greedy(model, ids, N_SPEED, stopping_criteria=transformers.StoppingCriteriaList([clock]))
    return (N_SPEED - 1) / (time.perf_counter() - clock.first)


def compare_speed(program, gguf):
    print(f"decode steps/s, {torch.get_num_threads()} threads, {N_SPEED} tokens, median (and range) of 3 in turns")
    print(f"{'dtype':<6} {'ssa':>22} {'generate()':>22} {'plain loop':>22} {'ratio to the better':>20}")
    passed = True
    for dtype, torch_dtype in (("f32", torch.float32), ("bf16", torch.bfloat16)):
        tokenizer, model = load_gguf(gguf, torch_dtype)
        ids = tokenizer(PROMPTS[0], return_tensors="pt").input_ids
        loop_speed(model, ids)  # warms both up
        turns = [
            (our_speed(program, gguf, dtype), generate_speed(model, ids), loop_speed(model, ids))
            for _ in range(3)
        ]
        columns = list(zip(*turns))
        ours, generated, looped = (statistics.median(column) for column in columns)
        ratio = ours / max(generated, looped)
        shown = [f"{statistics.median(c):.1f} ({min(c):.1f}-{max(c):.1f})" for c in columns]
        print(f"{dtype:<6} {shown[0]:>22} {shown[1]:>22} {shown[2]:>22} {ratio:>20.2f}", flush=True)
        passed &= ratio >= MIN_SPEED_RATIO
    return passed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("--gguf", default=".models/SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--parts", default="logits,greedy,speed")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(arguments.threads)
    parts = {
        "logits": lambda: compare_logits(arguments.program),
        "greedy": lambda: compare_greedy(arguments.program, arguments.gguf),
        "speed": lambda: compare_speed(arguments.program, arguments.gguf),
    }
    results = {}
    for part in arguments.parts.split(","):
        results[part] = parts[part]()
        print(f"{part}: {'ok' if results[part] else 'MISSED'}\n", flush=True)
    sys.exit(0 if all(results.values()) else 1)


if __name__ == "__main__":
    main()
