"""Writes tests/golden/models: tiny random models and the logits that transformers computes from them.

NAME/config.json, model.safetensors    the model
NAME/expected.safetensors              ids [512], rows [33] and logits [33, vocab] (float32) of those rows

llama-nsa, which transformers does not know, is answered by tools/reference/model.py, written from the specification.

Needs: pip install transformers==5.17.0 safetensors numpy, and torch 2.13
"""

import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tools"), str(ROOT / "tools/reference")]

from layout import RAW, Layout  # noqa: E402
from model import Attention, ReferenceModel  # noqa: E402
from random_models import SHAPES, load, make_config, make_model, random_ids  # noqa: E402

FOLDER = ROOT / "tests/golden/models"
N_TOKENS = 512
ROWS = [*range(0, N_TOKENS, 16), N_TOKENS - 1]
README = """Tiny random models and their logits, made by tools/golden/make_model_golden.py
with transformers {transformers} and torch {torch}.
"""


def reference_logits(folder, ids):
    layout = Layout([8], ids=ids.tolist(), levels=[RAW] * len(ids))
    logits, _ = ReferenceModel(folder).logits(layout, list(range(len(ids))), Attention("full"))
    return logits.float()


def logits_of(folder, config, ids):
    if config["model_type"] == "llama-nsa":
        return reference_logits(folder, ids)
    with torch.no_grad():
        return load(folder)(ids[None]).logits[0]


def check_rope_matters(folder, config, ids, logits):
    """A golden that plain RoPE satisfied as well would prove nothing about the scaling."""
    if config.get("rope_scaling") or config.get("rope_parameters", {}).get("rope_type", "default") != "default":
        model = load(folder)
        model.config.rope_parameters = {"rope_type": "default", "rope_theta": 10000.0}
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
        with torch.no_grad():
            gap = (model(ids[None]).logits[0] - logits).abs().max().item()
        assert gap > 0.1, f"{folder.name}: RoPE scaling changes logits by {gap} only"


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    for seed, name in enumerate(SHAPES):
        folder = FOLDER / name
        config = make_config(name, dialect=4 + seed % 2)
        make_model(folder, config, seed, torch.float32 if seed == 0 else torch.bfloat16)
        ids = random_ids(config, N_TOKENS, 100 + seed)
        logits = logits_of(folder, config, ids)
        check_rope_matters(folder, config, ids, logits)
        expected = {"ids": ids, "rows": torch.tensor(ROWS), "logits": logits[ROWS].contiguous()}
        save_file(expected, folder / "expected.safetensors")
        print(f"{name}: logits within {logits.abs().max():.1f}")
    versions = {"transformers": transformers.__version__, "torch": torch.__version__.split("+")[0]}
    (FOLDER / "README.md").write_text(README.format(**versions))


if __name__ == "__main__":
    main()
