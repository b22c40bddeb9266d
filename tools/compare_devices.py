"""Logits on a CUDA device against the CPU's, for the golden models: full, gists and ssa attention, whole and decoded.

Usage: python3 tools/compare_devices.py PROGRAM     (needs torch and safetensors; exit code 1 if a difference passes its bar)
"""

import json
import pathlib
import subprocess
import sys
import tempfile

from safetensors.torch import load_file

GOLDEN = pathlib.Path(__file__).parent.parent / "tests/golden/models"
BARS = {"f32": 1e-3, "f64": 1e-5}  # angles are float32 in either, and devices round cos and sin differently
GISTS = ["--chunk", "4,2", "--plain-chunks", "--gist-ids", "90,91,92"]
MODES = {
    "full": [],
    "gists": GISTS,
    "ssa": [*GISTS, "--mass", "0.9"],
}


def logits(program, model, ids, out, mode, dtype, device, extra):
    command = [program, "logits", str(model), "--ids", ids, "--out", out, "--dtype", dtype, "--device", device,
               "--attention", mode, *extra]
    subprocess.run(command, check=True)
    return load_file(out)["logits"].double()


def main(program):
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        ids_file = f"{folder}/ids.json"
        for model in sorted(path for path in GOLDEN.iterdir() if path.is_dir()):
            ids = [i % 89 for i in load_file(model / "expected.safetensors")["ids"].tolist()][:200]
            pathlib.Path(ids_file).write_text(json.dumps({"prefix": ids[:160], "suffix": ids[160:]}))
            for mode, flags in MODES.items():
                if mode != "full" and model.name == "llama-nsa":
                    continue
                for dtype, bar in BARS.items():
                    rows = [logits(program, model, ids_file, f"{folder}/{device}", mode, dtype, device, flags)
                            for device in ("cpu", "cuda")]
                    worst = (rows[0] - rows[1]).abs().max().item()
                    failed |= not worst <= bar
                    print(f"{model.name:24} {mode:6} {dtype}  max difference {worst:.1e}  (bar {bar:.0e})", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main(sys.argv[1])
