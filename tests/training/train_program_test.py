"""`ssa train` as a user meets it: processes, kills, signals, bad recipes. Usage: train_program_test.py PROGRAM GOLDEN_DIR

SSA_TEST_KILLS=50 in the environment asks for more kills than the usual 8.
"""

import csv
import json
import os
import pathlib
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM, GOLDEN = None, None

CONFIG = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "hidden_act": "silu", "max_position_embeddings": 512,
    "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": True, "dtype": "float32",
}

RECIPE = """
[job]
output = "{out}"
[model]
path = "{model}"
init = "random"
dtype = "f32"
device = "cpu"
[data]
sources = ["{data}"]
seq_len = 96
suffix_min = 8
suffix_max = 16
[gist]
chunks = [4, "3-2"]
[objective]
cpt = 1.0
route = 0.1
[optimizer]
lr = 1e-3
[training]
steps = 6
global_batch_size = 4
[metrics]
log_interval = 1
tensorboard = false
"""


def run(*args, **options):
    return subprocess.run([PROGRAM, *map(str, args)], capture_output=True, timeout=120, **options)


class TrainTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.root = pathlib.Path(cls.folder.name)
        model = cls.root / "model"
        model.mkdir()
        tokenizer = json.loads((GOLDEN / "tokenizer/smollm2.json").read_text())
        shutil.copy(GOLDEN / "tokenizer/smollm2.json", model / "tokenizer.json")
        ids = list(tokenizer["model"]["vocab"].values()) + [token["id"] for token in tokenizer["added_tokens"]]
        size = max(ids) + 1
        (model / "config.json").write_text(json.dumps(
            {**CONFIG, "vocab_size": size + 3, "gist": {"token_ids": [size, size + 1, size + 2], "chunk": [4], "sink": 3, "word_aware": True}}))
        words = "the river was wide and the boats were slow because nobody had asked them to hurry".split()
        rng = random.Random(1)
        text = "\0".join(" ".join(rng.choice(words) for _ in range(rng.randint(20, 80))) for _ in range(40))
        (cls.root / "text.txt").write_text(text)
        built = run("data", "build", model, "--input", cls.root / "text.txt", "--out", cls.root / "data")
        assert built.returncode == 0, built.stderr.decode()

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def setUp(self):
        self.out = self.root / self._testMethodName
        self.recipe = self.root / f"{self._testMethodName}.toml"
        self.write(RECIPE)

    def write(self, text):
        self.recipe.write_text(text.format(out=self.out, model=self.root / "model", data=self.root / "data"))

    def train(self, *flags, **options):
        return run("train", self.recipe, *flags, **options)

    def train_well(self, *flags):
        result = self.train(*flags)
        self.assertEqual(result.returncode, 0, result.stderr.decode())
        return result.stdout.decode().strip()

    def losses(self, out=None):
        with open((out or self.out) / "log.csv") as file:
            return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(file)}

    def steps_kept(self):
        return sorted(path.name for path in self.out.glob("step-*"))

    def assert_refused(self, result, *words, codes=(1, 2)):
        message = result.stderr.decode().strip()
        self.assertIn(result.returncode, codes, message)
        self.assertEqual(len(message.splitlines()), 1, message)
        for word in words:
            self.assertIn(word, message)

    # ------------------------------------------------------------ processes

    def test_any_number_of_processes_trains_the_same(self):
        runs = []
        for processes in (1, 2, 4):
            out = self.root / f"processes-{processes}"
            self.train_well("--job.output", out, *(["--spawn", processes] if processes > 1 else []))
            runs.append(self.losses(out))
            self.assertEqual(len(runs[-1]), 6)
        for other in runs[1:]:
            for step, loss in runs[0].items():
                self.assertAlmostEqual(other[step], loss, delta=1e-4)
        # What one number of processes wrote, another goes on from.
        self.train_well("--job.output", self.root / "processes-4", "--resume", "--training.steps", 8, "--spawn", 2)
        self.train_well("--job.output", self.root / "processes-1", "--resume", "--training.steps", 8)
        self.assertAlmostEqual(self.losses(self.root / "processes-4")[8], self.losses(self.root / "processes-1")[8], delta=1e-4)

    def test_processes_must_divide_the_batch(self):
        result = self.train("--spawn", 2, "--training.global_batch_size", 3)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("training.global_batch_size 3 does not divide among 2 processes", result.stderr.decode())

    # ------------------------------------------------------------ checkpoints

    def test_resumes_bit_by_bit(self):
        whole, half = self.root / "whole", self.root / "half"
        self.train_well("--job.output", whole, "--checkpoint.interval", 3)
        half.mkdir()
        shutil.copytree(whole / "step-000003", half / "step-000003")
        self.train_well("--job.output", half, "--resume")
        for name in ("model.safetensors", "training.safetensors"):
            self.assertEqual((whole / "step-000006" / name).read_bytes(), (half / "step-000006" / name).read_bytes(), name)
        self.assertEqual({step: loss for step, loss in self.losses(whole).items() if step > 3}, self.losses(half))

    def test_survives_kills(self):
        rng = random.Random(2)
        flags = ["--training.steps", 100000, "--checkpoint.interval", 1, "--lr_scheduler.decay", "constant"]
        last = 0
        for kill in range(int(os.environ.get("SSA_TEST_KILLS", 8))):
            resume = ["--resume"] if self.steps_kept() else []
            process = subprocess.Popen([PROGRAM, "train", str(self.recipe), *resume, *map(str, flags)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE)
            for line in process.stderr:  # up to the first checkpoint of this run
                if b"saved" in line:
                    break
            time.sleep(rng.uniform(0, 0.15))
            process.kill()
            rest = process.stderr.read().decode()
            process.stderr.close()
            self.assertEqual(process.wait(), -signal.SIGKILL, rest)
            steps = self.steps_kept()
            self.assertGreaterEqual(len(steps), 1)
            step = int(steps[-1][5:])
            self.assertGreater(step, last)
            last = step
            self.assert_whole(self.out / steps[-1], step)
        path = self.train_well("--resume", *flags[2:], "--training.steps", last + 1)
        self.assertEqual(pathlib.Path(path).name, f"step-{last + 1:06}")
        leftovers = [path.name for path in self.out.iterdir() if path.name.startswith(".") or "partial" in path.name]
        self.assertEqual(leftovers, [])

    def assert_whole(self, folder, step):
        self.assertEqual(json.loads((folder / "training.json").read_text())["step"], step)
        info = run("info", folder)
        self.assertEqual(info.returncode, 0, info.stderr.decode())

    def start(self, *flags, **options):
        """A run without end, at its third step."""
        process = subprocess.Popen([PROGRAM, "train", str(self.recipe), "--training.steps", "100000", *map(str, flags)], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, **options)
        self.wait_for_step(process, 3)
        return process

    def wait_for_step(self, process, step):
        for line in process.stderr:
            if b"step: %d " % step in line:
                return

    def assert_ends_with_a_checkpoint(self, process):
        out, err = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, err.decode())
        steps = self.steps_kept()
        self.assertEqual(len(steps), 1)
        self.assertEqual(out.decode().strip(), str(self.out / steps[0]))
        self.assert_whole(self.out / steps[0], int(steps[0][5:]))

    def test_writes_a_checkpoint_on_signals(self):
        for number, flags in ((signal.SIGTERM, []), (signal.SIGHUP, []), (signal.SIGHUP, ["--spawn", 2])):
            with self.subTest(number=number, flags=flags):
                shutil.rmtree(self.out, ignore_errors=True)
                process = self.start(*flags)
                process.send_signal(number)
                self.assert_ends_with_a_checkpoint(process)

    def test_a_hangup_that_is_ignored_ends_nothing(self):
        for flags in ([], ["--spawn", 2]):
            with self.subTest(flags=flags):
                shutil.rmtree(self.out, ignore_errors=True)
                process = self.start(*flags, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as nohup does
                process.send_signal(signal.SIGHUP)
                self.wait_for_step(process, 12)
                self.assertIsNone(process.poll())
                process.terminate()
                self.assert_ends_with_a_checkpoint(process)

    def test_a_full_disk_leaves_older_checkpoints(self):
        self.train_well("--training.steps", 1)
        # Files beyond 20,000 bytes fail as on a full disk; Python ignores the signal, and so does its child here.
        result = self.train("--resume", "--training.steps", 2, restore_signals=False,
                            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000)))
        self.assertEqual(result.returncode, 1, result.stderr.decode())
        self.assertIn("File too large", result.stderr.decode().splitlines()[-1])
        self.assertEqual(self.steps_kept(), ["step-000001"])
        self.train_well("--resume", "--training.steps", 2)
        self.assertEqual(self.steps_kept(), ["step-000001", "step-000002"])

    # ------------------------------------------------------------ bad input

    def test_bad_recipes_are_one_line(self):
        self.assert_refused(self.train("--optimizer.weight_dcay", 1), "optimizer.weight_dcay", "did you mean optimizer.weight_decay?")
        self.assert_refused(self.train("--training.steps", "many"), "training.steps must be a whole number")
        self.assert_refused(self.train("--data.seq_len", 4096), "data.seq_len 4096", "512 positions")
        self.assert_refused(self.train("--data.sources", "['nowhere']"), "nowhere")
        self.assert_refused(self.train("--resume"), "no whole checkpoint")
        self.assert_refused(self.train("--training.steps"), "--training.steps")
        self.assert_refused(self.train("surplus"), "surplus")
        self.assert_refused(run("train", self.root / "none.toml"), "none.toml")
        self.write(RECIPE + "[training")
        self.assert_refused(self.train(), "line")
        self.write(RECIPE.replace("[objective]", "[objectives]"))
        self.assert_refused(self.train(), "[objectives] is not a section; did you mean [objective]?")

    def test_exit_codes_tell_the_command_line_from_the_recipe(self):
        for flags, words in ((["--spwan", 2], ["--spwan", "did you mean --spawn?"]), (["--x", 1], ["--x", "--section.key value"]),
                             (["--training.stesp", 5], ["did you mean training.steps?"]), (["--training.steps=many"], ["a whole number"]),
                             (["--spawn", 2, "--training.stesp", 5], ["did you mean training.steps?"])):
            self.assert_refused(self.train(*flags), *words, codes=[2])
        self.write(RECIPE.replace("steps = 6", "stesp = 6"))
        self.assert_refused(self.train("--data.seq_len=64"), "did you mean training.steps?", codes=[1])

    def test_stops_where_the_loss_is_not_a_number(self):
        result = self.train("--optimizer.lr", "1e30")
        self.assertEqual(result.returncode, 1)
        self.assertIn("step 2: the loss is", result.stderr.decode().splitlines()[-1])

    def test_datasets_of_other_tokenizers_are_refused(self):
        other = self.root / "other"
        other.mkdir()
        shutil.copy(GOLDEN / "tokenizer/qwen2.json", other / "tokenizer.json")
        built = run("data", "build", other, "--input", self.root / "text.txt", "--out", self.root / "other-data")
        self.assertEqual(built.returncode, 0, built.stderr.decode())
        self.assert_refused(self.train("--data.sources", f"['{self.root}/other-data']"), "tokenizer")


if __name__ == "__main__":
    PROGRAM, GOLDEN = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2])
    unittest.main(argv=[sys.argv[0]] + sys.argv[3:], verbosity=1)
