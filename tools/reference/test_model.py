"""The reference model against transformers (where it is installed) and against itself.

Run: python -m unittest test_model (in this folder; needs torch).
"""

import tempfile
import unittest

import torch

from layout import RAW, Layout, lay_out_pieces
from model import Attention, ReferenceModel
from select_chunks import Options
from tensor_file import read_tensors, write_tensors
from tiny_models import TinyTokenizer, opens_a_word, write_model

try:
    import transformers
except ImportError:
    transformers = None

GIST_IDS = [61, 62, 63]
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}
LINEAR = {"rope_type": "linear", "factor": 2.0}


def raw_layout(ids):
    return Layout([8], ids=ids, levels=[RAW] * len(ids))


def random_ids(count, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 60, (count,), generator=generator).tolist()


class AgainstTransformers(unittest.TestCase):
    @unittest.skipIf(transformers is None, "transformers is not installed")
    def test_full_attention(self):
        shapes = [
            ("llama", {}),
            ("llama", {"num_key_value_heads": 6, "tie_word_embeddings": True}),
            ("llama", {"num_key_value_heads": 1, "rope_scaling": LLAMA3}),
            ("llama", {"rope_scaling": LINEAR}),
            ("qwen2", {"rope_scaling": YARN, "head_dim": 8}),
            ("qwen2", {"num_attention_heads": 7, "num_key_value_heads": 1, "hidden_size": 112}),
            ("qwen3", {"head_dim": 32}),
        ]
        for seed, (model_type, changes) in enumerate(shapes):
            with self.subTest(
                model_type=model_type, **changes
            ), tempfile.TemporaryDirectory() as folder:
                write_model(folder, model_type, 64, seed, **changes)
                ids = random_ids(90, seed)
                theirs = transformers.AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32
                )
                with torch.no_grad():
                    expected = theirs(torch.tensor([ids])).logits[0]
                layout = raw_layout(ids)
                model = ReferenceModel(folder, torch.float32)
                logits, _ = model.logits(layout, layout.positions, Attention())
                self.assertLess((logits - expected).abs().max().item(), 1e-4)

    @unittest.skipIf(transformers is None, "transformers is not installed")
    def test_tokenizer(self):
        ours = TinyTokenizer()
        with tempfile.TemporaryDirectory() as folder:
            ours.write(folder)
            theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=folder + "/tokenizer.json")
            texts = [
                theirs.decode([i], clean_up_tokenization_spaces=False) for i in range(ours.size)
            ]
        self.assertEqual(texts, ours.texts)
        self.assertTrue(any(opens_a_word(text) and len(text) > 1 for text in texts))


class AgainstItself(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)

    def run_model(self, layout, attention, prompt_end=None, model_type="llama"):
        write_model(self.folder.name, model_type, 64, seed=5)
        model = ReferenceModel(self.folder.name)
        return model.logits(layout, layout.positions, attention, prompt_end)

    def test_everything_visible_is_full_attention(self):
        layout = lay_out_pieces([random_ids(30)], random_ids(9, 1), [4], 3, GIST_IDS)
        full, _ = self.run_model(layout, Attention("full"))
        gists, _ = self.run_model(layout, Attention("gists", previous=100))
        torch.testing.assert_close(gists, full)
        everything = Attention("ssa", previous=100, options=Options(mass=1.0))
        ssa, choices = self.run_model(layout, everything)
        torch.testing.assert_close(ssa, full)
        self.assertEqual(len(choices), 2 * 2 * 9)  # layers 1 and 2, two key/value heads, the suffix

    def test_selection_matters_and_prefix_does_not_select(self):
        layout = lay_out_pieces([random_ids(60)], random_ids(9, 1), [4, 2], 3, GIST_IDS)
        gists, _ = self.run_model(layout, Attention("gists"))
        ssa, _ = self.run_model(layout, Attention("ssa"))
        end = layout.prefix_end
        torch.testing.assert_close(ssa[:end], gists[:end])
        self.assertGreater((ssa[end:] - gists[end:]).abs().max().item(), 1e-3)

    def test_generated_tokens_do_not_look_ahead(self):
        layout = lay_out_pieces([random_ids(40)], random_ids(8, 1), [2, 2], 3, GIST_IDS)
        attention = Attention("ssa", options=Options(ratio=1))
        end = layout.prefix_end + 3
        whole, _ = self.run_model(layout, attention, prompt_end=end)
        for length in (end, end + 1, end + 4):
            cut = Layout(
                layout.chunk_sizes, layout.ids[:length], layout.levels[:length], layout.prefix_end
            )
            part, _ = self.run_model(cut, attention, prompt_end=end)
            torch.testing.assert_close(part, whole[:length])

    def test_no_gists_is_full_attention(self):
        layout = raw_layout(random_ids(20))
        full, _ = self.run_model(layout, Attention("full"))
        ssa, _ = self.run_model(layout, Attention("ssa"))
        torch.testing.assert_close(ssa, full)

    def test_gate(self):
        """Gates at sigmoid(0) = 1/2 are a halved o_proj; only row 3h + 1 counts."""
        layout = raw_layout(random_ids(12))
        write_model(self.folder.name, "llama-nsa", 64, seed=6)
        path = self.folder.name + "/model.safetensors"
        tensors = {name: array.copy() for name, array in read_tensors(path).items()}
        for name in tensors:
            if name.endswith("g_proj.weight"):
                tensors[name][1::3] = 0
        write_tensors(path, tensors)
        gated, _ = ReferenceModel(self.folder.name).logits(layout, layout.positions, Attention())
        for name in list(tensors):
            if name.endswith("g_proj.weight"):
                del tensors[name]
            elif name.endswith("o_proj.weight"):
                tensors[name] = tensors[name] / 2
        write_tensors(path, tensors)
        halved, _ = ReferenceModel(self.folder.name).logits(layout, layout.positions, Attention())
        torch.testing.assert_close(gated, halved)


if __name__ == "__main__":
    unittest.main()
