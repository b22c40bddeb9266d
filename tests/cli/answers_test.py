"""Answers, results and their files as a user meets them. Usage: answers_test.py PROGRAM GOLDEN_DIR"""

import json
import os
import pathlib
import pty
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM, GOLDEN = None, None

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True, "torch_dtype": "float32",
}


def run(*args, **options):
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, timeout=120, stdin=subprocess.DEVNULL, **options)


def write_weights(path, config):
    """Normal numbers, a layer's names as in Hugging Face checkpoints."""
    rng = random.Random(1)
    wide, inner, keys = config["hidden_size"], config["intermediate_size"], config["num_key_value_heads"] * config["head_dim"]
    shapes = {"model.embed_tokens.weight": (config["vocab_size"], wide), "model.norm.weight": (wide,)}
    for layer in range(config["num_hidden_layers"]):
        parts = {"input_layernorm": (wide,), "post_attention_layernorm": (wide,), "self_attn.q_proj": (wide, wide), "self_attn.k_proj": (keys, wide),
                 "self_attn.v_proj": (keys, wide), "self_attn.o_proj": (wide, wide), "mlp.gate_proj": (inner, wide), "mlp.up_proj": (inner, wide),
                 "mlp.down_proj": (wide, inner)}
        shapes.update({f"model.layers.{layer}.{name}.weight": shape for name, shape in parts.items()})
    header, data = {}, b""
    for name, shape in shapes.items():
        size = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * size if len(shape) == 1 else [rng.gauss(0, 0.3) for _ in range(size)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * size]}
        data += struct.pack(f"<{size}f", *values)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


class AnswersTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.folder.cleanup)
        cls.root = pathlib.Path(cls.folder.name)
        tokenizer = json.loads((GOLDEN / "tokenizer/smollm2.json").read_text())
        size = 1 + max([*tokenizer["model"]["vocab"].values(), *(token["id"] for token in tokenizer["added_tokens"])])
        cls.config = {**CONFIG, "vocab_size": size}
        for name in ("model", "weightless"):
            (cls.root / name).mkdir()
            shutil.copy(GOLDEN / "tokenizer/smollm2.json", cls.root / name / "tokenizer.json")
            (cls.root / name / "config.json").write_text(json.dumps(cls.config))
        cls.model = cls.root / "model"
        write_weights(cls.model / "model.safetensors", cls.config)
        (cls.root / "text.txt").write_text("the river was wide and the boats were slow " * 12)
        item = {"documents": ["The boat is red."], "question": "Which colour?", "answer": "red"}
        (cls.root / "items.jsonl").write_text(json.dumps(item) + "\n")

    def assert_refused(self, result, *words, code=1):
        message = result.stderr.decode()
        self.assertEqual(result.returncode, code, message)
        self.assertEqual(len(message.splitlines()), 1, message)
        for word in words:
            self.assertIn(word, message)

    def good(self, *args, **options):
        result = run(*args, **options)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result

    # ------------------------------------------------------------ escapes

    def results(self, *flags):
        out = self.root / "results.jsonl"
        self.good("eval", "qa", self.model, "--data", self.root / "items.jsonl", "--out", out, "--likelihood-only", *flags)
        return out

    def loss(self, *flags):
        line = json.loads(self.results(*flags).read_text())
        return line["nll"], line["suffix_tokens"]

    # ------------------------------------------------------------ Ctrl-C

    def start(self, *args, stdin=subprocess.DEVNULL):
        process = subprocess.Popen([PROGRAM, *map(str, args)], stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def test_ctrl_c_ends_an_answer_that_is_being_written(self):
        process = self.start("generate", self.model, "-p", "once", "-n", 50000, "-c", 60000, "--ignore-eos")
        text = process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        text += process.stdout.read()
        message = process.stderr.read().decode()
        self.assertEqual(process.wait(60), 130, message)
        self.assertTrue(text.endswith(b"\n"))
        self.assertIn("decode: ", message)

    def test_after_ctrl_c_the_next_question_may_come(self):
        document = self.root / "document.txt"
        document.write_text("a document of some words. " * 4)
        ours, its = pty.openpty()
        flags = ["ask", document, "-m", self.model, "-n", 50000, "-c", 60000, "--ignore-eos"]
        process = self.start(*flags, stdin=its)
        os.close(its)
        answer = process.stdout.fileno()
        for _ in range(2):
            os.write(ours, b"who?\n")
            self.assertNotEqual(os.read(answer, 1), b"")
            process.send_signal(signal.SIGINT)
            line = b"before"
            while line and not line.startswith(b"peak memory"):
                line = process.stderr.readline()
            self.assertNotEqual(line, b"", "ended by the first Ctrl-C")
            os.set_blocking(answer, False)  # the answer is whole by now, and may have been read
            while process.stdout.read(1 << 16):
                pass
            os.set_blocking(answer, True)
        os.write(ours, b"\x04")  # the end of input
        process.stdout.read()
        self.assertEqual(process.wait(60), 0)
        os.close(ours)

    def test_passages_that_were_opened(self):
        document = self.root / "numbers.txt"
        text = "\n".join(f"line {number} of the text tells of the number {number * 37}" for number in range(50))
        document.write_text(text)
        flags = ["ask", document, "-m", self.model, "-q", "who?", "-n", 12, "--ignore-eos", "--pivot", "mean", "--chunk", 8, "--passages", 3]
        lines = self.good(*flags).stderr.decode().splitlines()
        passages = [re.fullmatch(r"\[(\d)\] opened (\d+) times, tokens (\d+)-(\d+): (.+)", line) for line in lines if line.startswith("[")]
        self.assertEqual([passage[1] for passage in passages], ["1", "2", "3"])
        seen = set()
        for passage in passages:
            self.assertGreater(int(passage[2]), 0)
            tokens = set(range(int(passage[3]), int(passage[4])))
            self.assertTrue(tokens and not tokens & seen)
            seen |= tokens
            self.assertIn(passage[5].strip(), text.replace("\n", " "))

    def test_values_that_sampling_cannot_take(self):
        for flag, value in [("--temp", -1), ("--top-k", -3), ("--top-p", 2), ("--min-p", -1), ("--repeat-penalty", 0)]:
            self.assert_refused(run("generate", self.model, "-p", "a", flag, value), str(value), code=2)

    def test_prompts_are_checked_before_weights_are_read(self):
        long = self.root / "long.txt"
        long.write_text("word " * 4000)
        for arguments in (["ask", long, "-m", self.model, "-q", "who?", "-c", 100], ["generate", self.model, "-f", long]):
            self.assert_refused(run(*arguments), "the context is")  # one line: nothing of loading
        self.assert_refused(run("ask", self.root / "none.txt", "-m", self.model, "-q", "who?"), "none.txt")

    def test_formats_take_escapes(self):
        plain = self.loss()
        typed = self.loss("--question-format", "\n\tQ {}\nA", "--document-format", "{}\n\n", "--header", "a\n", "--answer-format", "\n{}")
        escaped = self.loss("--question-format", r"\n\tQ {}\nA", "--document-format", r"{}\n\n", "--header", r"a\n", "--answer-format", r"\n{}")
        self.assertEqual(typed, escaped)
        self.assertNotEqual(plain, typed)
        self.assertNotEqual(self.loss("--question-format", r"\\n{}"), self.loss("--question-format", r"\n{}"))

    def test_stop_strings_take_escapes(self):
        flags = ["generate", self.model, "-p", "the river", "--temp", 0, "--ignore-eos", "-n", 40]
        text = self.good(*flags).stdout.decode()
        letter = next(c for c in text[1:] if c.isascii() and c.isalpha() and c not in "nt")
        stopped = self.good(*flags, "--stop", "\\" + letter).stdout.decode()
        self.assertEqual(stopped.rstrip("\n"), text[:text.index(letter)].rstrip("\n"))

    # ------------------------------------------------------------ before the work

    def test_side_files_are_looked_at_first(self):
        """The model has no weights: a file that is named is named before they are missed."""
        model, out = self.root / "weightless", self.root / "out.jsonl"
        nowhere = self.root / "none" / "file.json"
        empty = self.root / "empty.jsonl"
        empty.write_text("")
        evaluate = ["eval", "qa", model, "--data", self.root / "items.jsonl", "--out", out]
        for flags, words in (([*evaluate, "--against", self.root / "missing.jsonl"], ["missing.jsonl"]),
                             ([*evaluate, "--against", f"{empty}:full"], ["empty.jsonl holds no results"]),
                             ([*evaluate, "--against", ":fool"], ["--against :fool", "no results of method fool"]),
                             ([*evaluate, "--against", f"{self.results()}:ssa:8"], ["no results of method ssa:8"]),
                             ([*evaluate, "--budget-from", self.root / "missing.jsonl"], ["missing.jsonl"]),
                             ([*evaluate, "--summary", nowhere], ["cannot write", str(nowhere)]),
                             ([*evaluate, "--summary", self.root], ["it is a folder"]),
                             ([*evaluate[:-1], nowhere], ["cannot write", str(nowhere)]),
                             (["eval", "sparsity", model, self.root / "text.txt", "--out", nowhere], ["cannot write", str(nowhere)]),
                             (["logits", model, "--text", "x", "--out", nowhere], ["cannot write", str(nowhere)]),
                             (evaluate, ["safetensors"])):
            self.assert_refused(run(*flags), *words)
        self.assertFalse(out.exists())

    def test_against_its_own_results(self):
        out = self.root / "own.jsonl"
        flags = ["eval", "qa", self.model, "--data", self.root / "items.jsonl", "--out", out, "--likelihood-only"]
        for against in (":full", out, f"{out}:full"):
            self.assertIn("Differences from", self.good(*flags, "--against", against).stdout.decode())
            out.unlink()

    def test_a_context_that_nobody_asked_for_needs_no_memory(self):
        model = self.root / "endless"
        shutil.copytree(self.model, model)
        (model / "config.json").write_text(json.dumps({**self.config, "max_position_embeddings": 2**31 - 1}))
        flags = ["generate", model, "-p", "the river", "--ignore-eos"]
        process = subprocess.Popen([PROGRAM, *map(str, flags)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL)
        self.addCleanup(process.communicate)
        self.addCleanup(process.kill)
        self.assertEqual(len(process.stdout.read(1)), 1)
        for asked in (["-c", 1 << 40], ["-c", 1 << 40, "-n", 1 << 39]):  # beyond any machine, and the model's positions
            result = run(*flags, *asked)
            self.assertEqual(result.returncode, 1)
            self.assertIn("of memory are available", result.stderr.decode().splitlines()[-1])

    def test_broken_rows_are_named_once(self):
        items = self.root / "broken.jsonl"
        good = (self.root / "items.jsonl").read_bytes()
        items.write_bytes(good + b'{"question": oh}\n')
        result = run("eval", "qa", self.root / "weightless", "--data", items, "--out", self.root / "x.jsonl")
        self.assert_refused(result, "broken.jsonl line 2: parse error at column 14: ")
        items.write_bytes(b'{"text": "q\xff\xfe"}\n')
        self.assert_refused(run("tokenize", self.model, "--jsonl", items), "row 1: parse error at column 12: ", "q\\xff")
        self.assert_refused(run(b"generat\xff".decode(errors="surrogateescape")), "generat\\xff", code=2)

    # ------------------------------------------------------------ what was opened

    def ask(self, *flags):
        return ["ask", self.root / "text.txt", "-m", self.model, "-q", "Which?", "-n", 4, "--temp", 0, *flags]

    def test_opened_chunks_without_colours(self):
        flags = self.ask("--show", "--attention", "sparse", "--block-size", 16, "--blocks", 3)
        text = self.good(*flags).stderr.decode()
        self.assertNotIn("\x1b", text)
        self.assertRegex(text, r"\[\d+x ")
        self.assertIn("[Nx ...]: opened N times (queries x layers x key/value heads)", text)
        for environment, coloured in (({}, True), ({"NO_COLOR": ""}, True), ({"NO_COLOR": "1"}, False)):
            self.assertEqual("\x1b[48;5;" in self.on_terminal(flags, environment), coloured, environment)

    def on_terminal(self, flags, environment):
        """What the program writes to standard error where that is a terminal."""
        ours, theirs = pty.openpty()
        variables = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
        process = subprocess.Popen([PROGRAM, *map(str, flags)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=theirs,
                                   env={**variables, **environment})
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 4096):
                text += part
        except OSError:  # the other end is closed
            pass
        os.close(ours)
        self.assertEqual(process.wait(), 0)
        return text.decode(errors="replace")

    def test_the_answer_of_full_attention_is_marked(self):
        result = self.good(*self.ask("--compare-full"))
        first, second = result.stdout.decode().split("full attention:\n")
        self.assertEqual(first, second)
        self.assertNotIn("full attention:", result.stderr.decode())


if __name__ == "__main__":
    PROGRAM, GOLDEN = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)
