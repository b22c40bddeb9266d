"""The program as a user meets it: forms that others rely upon, bad input, exit codes. Usage: program_test.py PROGRAM GOLDEN_DIR"""

import json
import os
import pathlib
import re
import struct
import subprocess
import sys
import tempfile
import unittest

PROGRAM, GOLDEN = None, None


def run(*args, stdin="", env=None):
    return subprocess.run([PROGRAM, *map(str, args)], input=stdin.encode(), capture_output=True, timeout=120,
                          env={**os.environ, **(env or {})})


def read_safetensors(path):
    """{name: (dtype, shape, values)} of F32, F64, I64 and BOOL tensors."""
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    tensors = {}
    for name, info in json.loads(data[8:8 + size]).items():
        if name != "__metadata__":
            begin, end = info["data_offsets"]
            raw = data[8 + size + begin:8 + size + end]
            letter, width = {"F32": ("f", 4), "F64": ("d", 8), "I64": ("q", 8), "BOOL": ("?", 1)}[info["dtype"]]
            tensors[name] = (info["dtype"], info["shape"], struct.unpack(f"<{len(raw) // width}{letter}", raw))
    return tensors


class ProgramTest(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.model = GOLDEN / "models/llama-mha"

    def path(self, name):
        return os.path.join(self.folder.name, name)

    def ids_file(self, value):
        path = self.path("ids.json")
        pathlib.Path(path).write_text(json.dumps(value))
        return path

    def logits(self, ids, *flags, model=None):
        out = self.path("out.safetensors")
        result = run("logits", model or self.model, "--ids", self.ids_file(ids), "--out", out, *flags)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertEqual(result.stdout, b"")
        return read_safetensors(out)

    def assert_refused(self, result, *words, code=1):
        message = result.stderr.decode().strip()
        self.assertEqual(result.returncode, code, message)
        self.assertEqual(result.stdout, b"")
        self.assertEqual(len(message.splitlines()), 1, message)
        for word in words:
            self.assertIn(word, message)

    # ------------------------------------------------------------ forms relied upon

    def test_logits_form(self):
        n_vocab = json.loads((self.model / "config.json").read_text())["vocab_size"]
        ids = list(range(5, 25))
        whole = self.logits(ids)
        self.assertEqual(whole["ids"], ("I64", [20], tuple(ids)))
        self.assertEqual(whole["positions"], ("I64", [20], tuple(range(20))))
        self.assertEqual(whole["logits"][:2], ("F32", [20, n_vocab]))
        last = self.logits({"prefix": ids[:7], "suffix": ids[7:]}, "--rows", "last", "--decode-from", 9)
        self.assertEqual(last["ids"], whole["ids"])
        self.assertEqual(last["logits"][1], [1, n_vocab])
        for a, b in zip(last["logits"][2], whole["logits"][2][-n_vocab:]):
            self.assertAlmostEqual(a, b, delta=1e-4)
        self.assertEqual(self.logits(ids, "--dtype", "f64")["logits"][0], "F64")

    def test_layout_form(self):
        ids = {"prefix": list(range(10, 23)), "suffix": [40, 41]}
        mask = self.path("mask.safetensors")
        result = run("layout", self.model, "--ids", self.ids_file(ids), "--chunk", "2,2", "--plain-chunks", "--gist-ids", "90,91,92",
                     "--sink", 3, "--mask", mask)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        layout = json.loads(result.stdout)
        self.assertEqual(layout["ids"], [10, 11, 12, 13, 14, 90, 15, 16, 90, 91, 17, 18, 90, 19, 20, 90, 91, 21, 22, 90, 91, 40, 41])
        self.assertEqual(layout["positions"], [0, 1, 2, 3, 4, 4, 5, 6, 6, 6, 7, 8, 8, 9, 10, 10, 10, 11, 12, 12, 12, 13, 14])
        self.assertEqual(layout["levels"][:10], [-1] * 5 + [0, -1, -1, 0, 1])
        self.assertEqual(layout["chunks"], [[0, 0, 5], [0, 6, 8], [1, 5, 9], [0, 10, 12], [0, 13, 15], [1, 12, 16], [0, 17, 19], [1, 19, 20]])
        dtype, shape, seen = read_safetensors(mask)["mask"]
        self.assertEqual((dtype, shape), ("BOOL", [23, 23]))
        self.assertTrue(all(seen[q * 23 + q] for q in range(23)))
        again = run("layout", self.model, "--ids", self.ids_file(layout["ids"]), "--laid", "--chunk", "2,2", "--plain-chunks", "--gist-ids",
                    "90,91,92")
        self.assertEqual(json.loads(again.stdout), layout)

    def test_gist_logits_hold_the_gists(self):
        ids = {"pieces": [[1, 2, 3, 4, 5], list(range(30, 60))], "suffix": [7, 8, 9]}
        flags = ["--chunk", 4, "--plain-chunks", "--gist-ids", "90,91,92"]
        for mode in ("gists", "ssa"):
            out = self.logits(ids, "--attention", mode, *flags)
            self.assertIn(90, out["ids"][2])
            self.assertEqual(out["logits"][1][0], len(out["ids"][2]))
        decode = ["--decode-from", len(out["ids"][2]) - 2]
        self.logits(ids, "--attention", "ssa", *flags, *decode)
        refused = run("logits", self.model, "--ids", self.ids_file(ids), "--out", self.path("x"), "--attention", "ssa", *flags,
                      "--decode-from", 4)
        self.assert_refused(refused, "--decode-from 4", "prefix")

    def test_pivots_without_gists_end_their_chunks_with_the_prompt(self):
        ids = [5 + i % 40 for i in range(90)]
        flags = ["--attention", "ssa", "--pivot", "mean", "--budget", 8, "--chunk", 4, "--plain-chunks", "--decode-from", 60]
        by_one = self.logits(ids, *flags)
        by_many = self.logits(ids, *flags, "--decode-piece", 16)
        split = self.logits({"prefix": ids[:60], "suffix": ids[60:]}, *flags)
        full = self.logits(ids)
        self.assertEqual(by_one["ids"][2], tuple(ids))
        for a, b, c in zip(by_one["logits"][2], by_many["logits"][2], split["logits"][2]):
            self.assertAlmostEqual(a, b, delta=1e-4)
            self.assertAlmostEqual(a, c, delta=1e-4)
        self.assertGreater(max(abs(a - b) for a, b in zip(by_one["logits"][2], full["logits"][2])), 1e-3)

    def test_block_sparse_forms(self):
        ids = [5 + i * i % 40 for i in range(90)]
        full = self.logits(ids)["logits"][2]
        blocks = ["--attention", "sparse", "--block-size", 8, "--blocks"]
        sparse = self.logits(ids, *blocks, 2)["logits"][2]
        for flags in ([*blocks, 2, "--decode-from", 60], [*blocks, 2, "-b", 7], [*blocks, 2, "--kernels", "reference"]):
            for a, b in zip(sparse, self.logits(ids, *flags)["logits"][2]):
                self.assertAlmostEqual(a, b, delta=1e-4)
        self.assertGreater(max(abs(a - b) for a, b in zip(sparse, full)), 1e-3)
        for a, b in zip(self.logits(ids, *blocks, 100)["logits"][2], full):
            self.assertAlmostEqual(a, b, delta=1e-4)
        nsa = GOLDEN / "models/llama-nsa"
        for variant in ("ssa", "sparse-sparse", "moba", "fullattn"):
            self.logits(ids, "--attention", "sparse", "--variant", variant, "--block-rule", "published", model=nsa)
        facts = json.loads(run("info", nsa, "--json").stdout)
        config = json.loads((nsa / "config.json").read_text())
        self.assertEqual((facts["block size"], facts["blocks"]), (config["block_size"], config["block_counts"]))
        self.assertEqual(facts["variant"], "ssa")

    def test_longer_context(self):
        positions = json.loads((self.model / "config.json").read_text())["max_position_embeddings"]
        facts = json.loads(run("info", self.model, "--json", "--rope-scaling", "llama3:4").stdout)
        self.assertEqual((facts["RoPE"], facts["positions"]), ("llama3", 4 * positions))
        ids = list(range(5, 45))
        plain, scaled = self.logits(ids)["logits"][2], self.logits(ids, "--rope-scaling", "linear:2")["logits"][2]
        self.assertGreater(max(abs(a - b) for a, b in zip(plain, scaled)), 1e-3)

    def test_tokenize_form(self):
        rows = '{"text": "Hello <|x|> world"}\n\n{"text": ""}\n'
        pathlib.Path(self.path("rows.jsonl")).write_text(rows)
        tokenizer = self.path("tokenizer")
        os.mkdir(tokenizer)
        source = sorted((GOLDEN / "tokenizer").glob("*.json"))[0]
        pathlib.Path(tokenizer, "tokenizer.json").write_bytes(source.read_bytes())
        result = run("tokenize", tokenizer, "--jsonl", self.path("rows.jsonl"))
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        lines = [json.loads(line) for line in result.stdout.splitlines()]
        self.assertEqual(len(lines), 2)
        self.assertEqual(lines[1], {"ids": []})
        for text in ("", "Hello"):
            by_flag, by_input = run("tokenize", tokenizer, "--text", text, stdin="other"), run("tokenize", tokenizer, stdin=text)
            self.assertEqual((by_flag.returncode, by_flag.stdout), (0, by_input.stdout))
        self.assertEqual(run("tokenize", tokenizer, "--text", "").stdout, b'{"ids": []}\n')
        self.assert_refused(run("tokenize", tokenizer, "--jsonl", ""), "--jsonl", "empty", code=2)
        pathlib.Path(self.path("rows.jsonl")).write_text(rows + "{broken\n")
        broken = run("tokenize", tokenizer, "--jsonl", self.path("rows.jsonl"))
        self.assertEqual(broken.returncode, 1)
        self.assertIn("row 4", broken.stderr.decode())

    # ------------------------------------------------------------ habits

    def test_flags_from_the_environment(self):
        out = self.path("env.safetensors")
        result = run("logits", self.model, "--ids", self.ids_file([1, 2, 3]), env={"SSA_OUT": out, "SSA_ROWS": "last"})
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assertEqual(read_safetensors(out)["logits"][1][0], 1)

    def test_unknown_flags_name_the_nearest(self):
        self.assert_refused(run("generate", self.model, "--tpo-k", 3), "--tpo-k", "--top-k", code=2)
        self.assert_refused(run("logits", self.model, "--id", "x", "--out", "y"), "--ids", code=2)
        self.assert_refused(run("generat"), "generat", "did you mean generate", code=2)

    def test_version_and_help(self):
        self.assertTrue(run("--version").stdout.startswith(b"ssa "))
        for command in ("generate", "ask", "logits", "layout", "tokenize", "info", "convert", "gistify"):
            self.assertEqual(run(command, "--help").returncode, 0, command)

    # ------------------------------------------------------------ bad input

    def test_bad_ids(self):
        for value, word in (([1, 2, 100000], "100000"), ([1, -1], "-1"), ({"prefix": [1], "ids": [2]}, "more than one"),
                            ({"text": "x"}, "text"), ([1, "a"], "a"), ([], "no tokens"), (3, "list")):
            result = run("logits", self.model, "--ids", self.ids_file(value), "--out", self.path("x"))
            self.assert_refused(result, word)
            self.assertFalse(os.path.exists(self.path("x")))

    def test_empty_values(self):
        for flags, message in ((["-p", ""], "-p: the prompt is empty"), (["--prompt", ""], "-p: the prompt is empty"), (["-f", ""], "-f: the file's name is empty")):
            result = run("generate", self.model, *flags, stdin="a prompt of another place")
            self.assert_refused(result, message, code=2)

    def test_attention_that_the_checkpoint_lacks(self):
        flags = ["--ids", self.ids_file([1, 2, 3]), "--out", self.path("x"), "--plain-chunks"]
        self.assert_refused(run("logits", self.model, *flags, "--attention", "ssa"), "--pivot", "gistify")
        self.assert_refused(run("logits", self.model, *flags, "--attention", "gists"), "gistify")
        nsa = GOLDEN / "models/llama-nsa"
        self.assert_refused(run("logits", nsa, *flags, "--attention", "ssa"), "llama-nsa", "full")
        self.assert_refused(run("logits", self.model, *flags, "--attention", "ssa", "--chunk", 0, "--gist-ids", "90,91,92"), "0", code=2)
        self.assert_refused(run("logits", self.model, *flags[:4], "--attention", "ssa", "--gist-ids", "90,91,92"), "--plain-chunks")
        exclusive = run("logits", self.model, *flags, "--ratio", 8, "--budget", 64)
        self.assertEqual(exclusive.returncode, 2)

    def test_gist_flags_that_do_not_fit(self):
        nsa = GOLDEN / "models/llama-nsa"
        logits = ["logits", self.model, "--ids", self.ids_file([1, 2, 3]), "--out", self.path("x")]
        bench = ["bench", self.model, "-p", 4, "-n", 0, "-r", 1, "-t", 1]
        gists = ["--attention", "gists", "--gist-ids", "90,91,92", "--plain-chunks"]
        for command, message in (
                ([*bench, "--chunk", 4, "--budget", 4, "--sink", 0], "--chunk has no effect with attention full: it is for ssa; this checkpoint has no gists: add --pivot mean, or --adapter"),
                ([*bench, "--attention", "full", "--ratio", 8], "--ratio has no effect with attention full: it is for ssa"),
                (["bench", nsa, *bench[2:], "--attention", "full", "--mass", 0.5], "--mass has no effect with attention full: it is for ssa"),
                ([*logits, "--plain-chunks"], "--plain-chunks has no effect with attention full: it is for ssa"),
                ([*logits, *gists, "--select", "group"], "--select has no effect with attention gists: it is for ssa"),
                ([*logits, *gists, "--chunk", 4, "--budget", 8], "--budget has no effect with attention gists: it is for ssa")):
            result = run(*command)
            self.assertEqual(result.returncode, 0, result.stderr.decode())
            self.assertIn(f"warning: {message}\n", result.stderr.decode())
        for environment, flags in (({"SSA_RATIO": "8"}, ["--budget", 64]), ({"SSA_BUDGET": "4", "SSA_MASS": "0.5"}, ["--ratio=8"])):
            result = run(*bench, "--pivot", "mean", *flags, env=environment)
            self.assertEqual(result.returncode, 0, result.stderr.decode())
        self.assert_refused(run(*bench, "--pivot", "mean", "--ratio", 8, "--budget", 64), "--ratio excludes --budget", code=2)
        self.assert_refused(run("generate", self.model, "-ngl", 99), "-ngl is llama.cpp's; here: --device cuda", code=2)
        environment = {"SSA_BUDGET": "4", "SSA_SINK": "0", "SSA_BLOCKS": "4"}
        for command in (bench, [*bench, "--attention", "full"], [*bench, "--pivot", "mean"], [*bench, "--kv-dtype", "int8", "--dense-below", 8]):
            result = run(*command, env=environment)
            self.assertEqual(result.returncode, 0, result.stderr.decode())

    def test_layout_refuses(self):
        ids, flags = [5, 6, 7], ["--chunk", "2", "--plain-chunks", "--gist-ids", "90,91,92"]
        n_vocab = json.loads((self.model / "config.json").read_text())["vocab_size"]
        for value, extra, code, words in (
                ([5, 2**63], [], 1, ["9223372036854775808", "2^63"]), ([5, 2**64 - 1], [], 1, ["18446744073709551615"]),
                ([5, 2**70], [], 1, ["e+21"]), ([5, -1], [], 1, ["-1"]), ([5, 1.5], [], 1, ["1.5"]),
                ({"prefix": ids, "suffix": [-3]}, [], 1, ["-3"]), (ids, ["--sink", "x"], 2, ["--sink"])):
            self.assert_refused(run("layout", self.model, "--ids", self.ids_file(value), *flags, *extra), *words, code=code)
        for gist_ids in ("5,5,5", "1,2,3,4", "90,-1", "90,x", ""):
            self.assert_refused(run("layout", self.model, "--ids", self.ids_file(ids), *flags[:3], "--gist-ids", gist_ids), "--gist-ids", "different", code=2)
        for chunk in ("abc", "4,0", ""):
            self.assert_refused(run("layout", self.model, "--ids", self.ids_file(ids), "--chunk", chunk), "--chunk", code=2)
        self.assert_refused(run("layout", self.model, "--ids", ""), "--ids", "empty", code=2)
        for value, extra in (([5, n_vocab - 1], []), ([5, 6, n_vocab + 1], ["--gist-ids", f"{n_vocab + 1}", "--laid"]), ([5, 6, 90], ["--laid", "--sink=-1"])):
            result = run("layout", self.model, "--ids", self.ids_file(value), "--chunk", 2, "--plain-chunks", *(extra if "--gist-ids" in extra else [*flags[3:], *extra]))
            self.assertEqual(result.returncode, 0, result.stderr.decode())
        folder = self.path("sizeless")  # says nothing of its vocabulary
        os.mkdir(folder)
        pathlib.Path(folder, "config.json").write_text("{}")
        self.assertEqual(run("layout", folder, "--ids", self.ids_file([5, 2**63 - 1]), *flags).returncode, 0)
        self.assert_refused(run("layout", folder, "--ids", self.ids_file([5, -1]), *flags), "-1")

    def test_block_flags_that_do_not_fit(self):
        flags = ["--ids", self.ids_file([1, 2, 3]), "--out", self.path("x")]
        nsa = GOLDEN / "models/llama-nsa"
        sparse = ["--attention", "sparse"]
        for model, extra, words in (
                (nsa, [*sparse, "--variant", "nsa"], ["window_size is 0"]),
                (self.model, [*sparse, "--variant", "nsa"], ["llama", "gates"])):
            self.assert_refused(run("logits", model, *flags, *extra), *words)
        for model, extra, words in (
                (nsa, [*sparse, "--block-size", 0], ["block size 0"]),
                (nsa, [*sparse, "--blocks", -1], ["number of blocks -1"]),
                (nsa, [*sparse, "--blocks", 17, "--block-size", 16, "--block-rule", "published"], ["17", "published"]),
                (nsa, [*sparse, "--ratio", 8], ["--ratio", "gists"]),
                (nsa, [*sparse, "--chunk", 4], ["--chunk", "gists"]),
                (nsa, ["--attention", "full", "--blocks", 8], ["--blocks", "full"]),
                (self.model, ["--variant", "moba"], ["--variant", "full"])):
            self.assert_refused(run("logits", model, *flags, *extra), *words, code=2)
        self.assertEqual(run("logits", nsa, *flags, *sparse, "--block-rule", "best").returncode, 2)
        self.assertEqual(run("logits", nsa, *flags, "--rope-scaling", "llama3").returncode, 2)
        copy = self.path("copy")
        os.mkdir(copy)
        config = json.loads((nsa / "config.json").read_text())
        weights = (nsa / "model.safetensors").read_bytes()
        pathlib.Path(copy, "model.safetensors").write_bytes(weights)
        for change, words in (({"block_size": 0}, ["block_size"]), ({"inference_mode": "x"}, ["inference_mode"]),
                              ({"window_size": 64}, ["window_size", "64", "--variant nsa"])):
            pathlib.Path(copy, "config.json").write_text(json.dumps({**config, **change}))
            self.assert_refused(run("logits", copy, *flags, *sparse), *words)
        gateless = json.loads((self.model / "config.json").read_text())
        gateless.update(model_type="llama-nsa", architectures=["LlamaNSAForCausalLM"])
        pathlib.Path(copy, "config.json").write_text(json.dumps(gateless))
        pathlib.Path(copy, "model.safetensors").write_bytes((self.model / "model.safetensors").read_bytes())
        self.assert_refused(run("logits", copy, *flags, *sparse), "g_proj", "nothing")

    def test_broken_checkpoints(self):
        self.assert_refused(run("info", self.path("nothing")), "nothing")
        empty = self.path("empty")
        os.mkdir(empty)
        self.assert_refused(run("info", empty), "safetensors")
        copy = self.path("copy")
        os.mkdir(copy)
        config = json.loads((self.model / "config.json").read_text())
        weights = (self.model / "model.safetensors").read_bytes()
        pathlib.Path(copy, "config.json").write_text(json.dumps(config))
        pathlib.Path(copy, "model.safetensors").write_bytes(weights[:-100])
        self.assert_refused(run("info", copy), "model.safetensors")
        pathlib.Path(copy, "model.safetensors").write_bytes(weights)
        pathlib.Path(copy, "config.json").write_text(json.dumps({**config, "intermediate_size": 24}))
        flags = ["--ids", self.ids_file([1]), "--out", self.path("x")]
        self.assert_refused(run("logits", copy, *flags), "mlp", "24")
        pathlib.Path(copy, "config.json").write_text(json.dumps({**config, "model_type": "mamba", "architectures": ["MambaForCausalLM"]}))
        self.assert_refused(run("info", copy), "mamba", "llama", "qwen2", "qwen3", "llama-nsa")

    def test_waiting_threads_soon_sleep(self):
        """As OpenMP says what it goes by, whenever it is loaded."""
        def spins(**given):
            environment = {name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
            result = subprocess.run([PROGRAM, "bench", "--help"], capture_output=True, timeout=120,
                                    env={**environment, "OMP_DISPLAY_ENV": "VERBOSE", **given})
            self.assertEqual(result.returncode, 0)
            return re.findall(r"GOMP_SPINCOUNT = '(\w+)'", result.stderr.decode())

        self.assertEqual(spins()[1:], ["1000"])
        self.assertEqual(spins(GOMP_SPINCOUNT="7"), ["7"])
        self.assertEqual(len(spins(OMP_WAIT_POLICY="passive")), 1)

    def test_gistify_and_convert_round_trip(self):
        gisted, back = self.path("gisted"), self.path("back")
        self.assertEqual(run("gistify", self.model, gisted, "--chunk", "4,4").returncode, 0)
        config = json.loads(pathlib.Path(gisted, "config.json").read_text())
        base = json.loads((self.model / "config.json").read_text())["vocab_size"]
        self.assertEqual(config["vocab_size"], base + 3)
        self.assertEqual(config["gist"]["token_ids"], [base, base + 1, base + 2])
        self.assert_refused(run("gistify", gisted, self.path("twice")), "already")
        self.assertEqual(run("convert", gisted, back).returncode, 0)
        ids = list(range(40))
        flags = ["--attention", "ssa", "--plain-chunks"]
        self.assertEqual(self.logits(ids, *flags, model=gisted), self.logits(ids, *flags, model=back))
        self.assert_refused(run("convert", self.model, back), "back")
        packed = self.path("packed.gguf")  # there is no tokenizer: the gists are known by the settings alone
        self.assertEqual(run("convert", gisted, packed).returncode, 0)
        self.assertEqual(self.logits(ids, *flags, model=gisted), self.logits(ids, *flags, model=packed))


if __name__ == "__main__":
    PROGRAM, GOLDEN = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)
