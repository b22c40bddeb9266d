"""Decode speed of `ssa` and of llama.cpp on the same GGUF file, at several depths, in turns.

    python3 tools/compare_llama_cpp.py build/ssa --llama LLAMA_CPP_FOLDER --model MODEL.gguf --gists MODEL-WITH-GISTS [--depths 0,4096,16384,32768] [--rounds 5] --out samples.json

LLAMA_CPP_FOLDER is llama.cpp's source with a build in build/ (the source package of llama-cpp-python has it in vendor/llama.cpp;
cmake -B build -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON, target llama). tools/llama_cpp_decode.cpp is built against it. For each of
-fa 0 and -fa 1 one process reads the largest depth once, which takes minutes, and then waits. At each depth the two take turns with
`ssa bench --attention ssa` and `--attention full` (random fill, 8-bit weights, bf16 keys and values); figures are medians. Nothing else should run
while they take turns. Exit code 1 if a bar is missed: 0.7, 1.3, 4 and 7 times the better of llama.cpp's at 0, 4K, 16K and 32K tokens. Python's standard library alone.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

BARS = {0: 0.7, 4096: 1.3, 16384: 4.0, 32768: 7.0}


class LlamaCpp:
    """One process with a context that has been read."""

    def __init__(self, program, model, flash, threads, n_new, depths):
        command = [program, model, str(flash), str(threads), str(n_new), *map(str, depths)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.n_depths = len(depths)
        self.read = {}
        self.system = ""

    def wait(self):
        while len(self.read) < self.n_depths:
            word, _, rest = self.process.stdout.readline().strip().partition(" ")
            if word == "system":
                self.system = rest
            elif word == "read":
                depth, seconds = rest.split()
                self.read[int(depth)] = float(seconds)
            elif not word:
                sys.exit("llama_cpp_decode ended early")

    def decode(self, depth):
        self.process.stdin.write(f"{depth}\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline().split()[2])


def build(source, folder):
    libraries = source / "build/bin"
    program = folder / "llama_cpp_decode"
    subprocess.run(["g++", "-O2", "-std=c++17", "-I", source / "include", "-I", source / "ggml/include",
                    pathlib.Path(__file__).with_name("llama_cpp_decode.cpp"), "-o", program, "-L", libraries, "-lllama", "-lggml", "-lggml-base",
                    f"-Wl,-rpath,{libraries.resolve()}"], check=True)
    return program


def ours(args, depth, attention):
    model = args.gists if attention == "ssa" else args.model
    command = [args.ssa, "bench", model, "-t", args.threads, "-p", 0, "-n", args.new, "-d", depth, "-r", 1, "--fill", "random", "--attention", attention,
               "--weights", "int8", "--dtype", "bf16", "-o", "json"]
    if attention == "ssa":
        command += ["--chunk", args.chunk]
    out = subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True).stdout
    return json.loads(out)[0]["median"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ssa")
    parser.add_argument("--llama", required=True, type=pathlib.Path)
    parser.add_argument("--model", required=True)
    parser.add_argument("--gists", required=True, help="the same model behind `ssa gistify`, for --attention ssa")
    parser.add_argument("--chunk", default="8", help="chunk size for --attention ssa")
    parser.add_argument("--depths", default="0,4096,16384,32768")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--new", type=int, default=32, help="tokens a measurement")
    parser.add_argument("--start", help="file that must be there before measurements begin: reading may share the machine, they may not")
    parser.add_argument("--out", type=pathlib.Path)
    args = parser.parse_args()
    depths = sorted(map(int, args.depths.split(",")), reverse=True)
    with tempfile.TemporaryDirectory() as folder:
        program = build(args.llama, pathlib.Path(folder))
        llamas = {}
        for flash in (0, 1):  # one after the other: their threads wait for each other by spinning
            llama = LlamaCpp(program, args.model, flash, args.threads, args.new, depths)
            llama.wait()
            llamas[f"llama.cpp -fa {flash}"] = llama
    print({name: llama.read for name, llama in llamas.items()}, flush=True)
    while args.start and not os.path.exists(args.start):
        subprocess.run(["sleep", "1"])
    if os.getloadavg()[0] > 1:
        print(f"warning: the load is {os.getloadavg()[0]:.1f}: is something else running?")
    samples = []
    for depth in depths:
        taken = {}
        for _ in range(args.rounds):
            for name, llama in llamas.items():
                taken.setdefault(name, []).append(llama.decode(depth))
            for attention in ("ssa", "full"):
                taken.setdefault(attention, []).append(ours(args, depth, attention))
        samples.append({"depth": depth, "tokens_per_second": taken})
        print(depth, {name: [round(x, 1) for x in values] for name, values in taken.items()}, flush=True)
    report = {"system": next(iter(llamas.values())).system, "read_seconds": {name: llama.read for name, llama in llamas.items()}, "samples": samples}
    if args.out:
        args.out.write_text(json.dumps(report, indent=1))
    missed = False
    print("| depth | llama.cpp -fa 0 | -fa 1 | ssa | full | ssa over llama.cpp's better | ssa over our full |\n|" + " ---: |" * 7)
    for sample in reversed(samples):
        median = {name: statistics.median(values) for name, values in sample["tokens_per_second"].items()}
        spread = {name: f"{median[name]:.1f} ({min(values):.1f}-{max(values):.1f})" for name, values in sample["tokens_per_second"].items()}
        ratio = median["ssa"] / max(value for name, value in median.items() if name.startswith("llama"))
        missed = missed or ratio < BARS.get(sample["depth"], 0)
        print(f"| {sample['depth']} | " + " | ".join(spread.values()) + f" | {ratio:.2f}x | {median['ssa'] / median['full']:.2f}x |")
    print(report["system"])
    sys.exit(1 if missed else 0)


if __name__ == "__main__":
    main()
