"""How a decode step grows with the context: keys scored and read, counted, and the time beside them.

Usage: python3 tools/plot_growth.py PROGRAM [--heads 9/3/64] [--out docs/growth.svg]

Runs `ssa bench --attention-only` from 4K to 1M tokens for SSA (chunk 8, the paper's budget) and for H-SSA with as many levels as the context
has fourfold groups of chunks, ceil(log4(N / 8)), and a fixed budget. Fits keys = a + b * N / ratio to the first and a + b * log N to the second,
prints both R^2, and draws keys and time. Python's standard library alone.
"""

import argparse
import json
import math
import pathlib
import subprocess

LENGTHS = [4096 << i for i in range(9)]
RATIO = 8
BUDGET = 256


def measure(args, n, flags):
    text = subprocess.run([args.program, "bench", "--attention-only", "--heads", args.heads, "-p", "0", "-d", str(n), "-t", "2", "-o", "json",
                           *flags], check=True, capture_output=True, text=True).stdout
    rows = {row["test"].split(" @")[0]: row for row in json.loads(text)}
    ssa = rows["ssa decode"]
    return {"n": n, "keys": ssa["keys_scored"] + ssa["keys_read"], "us": ssa["us"], "dense_us": rows["dense decode"]["us"]}


def fit(xs, ys):
    """Least squares y = a + b x: (a, b, R^2)."""
    mean_x, mean_y = sum(xs) / len(xs), sum(ys) / len(ys)
    b = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys)) / sum((x - mean_x) ** 2 for x in xs)
    a = mean_y - b * mean_x
    rest = sum((y - a - b * x) ** 2 for x, y in zip(xs, ys))
    return a, b, 1 - rest / sum((y - mean_y) ** 2 for y in ys)


def polyline(points, box, ranges, colour, label, place):
    left, top, width, height = box
    (x0, x1), (y0, y1) = ranges

    def at(x, y):
        return (left + width * (math.log(x) - math.log(x0)) / (math.log(x1) - math.log(x0)),
                top + height * (1 - (math.log(y) - math.log(y0)) / (math.log(y1) - math.log(y0))))

    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (at(x, y) for x, y in points))
    return (f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
            f'<text x="{left + 8}" y="{top + 16 + 16 * place}" fill="{colour}">{label}</text>')


def panel(title, lines, left):
    box = (left + 50, 40, 320, 260)
    xs = [x for _, points in lines for x, _ in points]
    ys = [y for _, points in lines for _, y in points]
    ranges = ((min(xs), max(xs)), (min(ys), max(ys)))
    parts = [f'<text x="{box[0]}" y="28" font-weight="bold">{title}</text>',
             f'<rect x="{box[0]}" y="{box[1]}" width="{box[2]}" height="{box[3]}" fill="none" stroke="#999"/>',
             f'<text x="{box[0]}" y="{box[1] + box[3] + 18}">{min(xs) // 1024}K</text>',
             f'<text x="{box[0] + box[2] - 20}" y="{box[1] + box[3] + 18}">{max(xs) // 1024}K</text>',
             f'<text x="{left}" y="{box[1] + 10}">{max(ys):.3g}</text>', f'<text x="{left}" y="{box[1] + box[3]}">{min(ys):.3g}</text>']
    for i, ((label, points), colour) in enumerate(zip(lines, ("#1f77b4", "#d62728", "#555"))):
        parts.append(polyline(points, box, ranges, colour, label, i))
    return "".join(parts)


def draw(flat, deep):
    keys = panel("keys scored and read a step and head", [("SSA", [(r["n"], r["keys"]) for r in flat]), ("H-SSA", [(r["n"], r["keys"]) for r in deep])], 10)
    time = panel("microseconds a layer", [("SSA", [(r["n"], r["us"]) for r in flat]), ("H-SSA", [(r["n"], r["us"]) for r in deep]),
                                         ("dense", [(r["n"], r["dense_us"]) for r in flat])], 420)
    return f'<svg xmlns="http://www.w3.org/2000/svg" width="820" height="330" font-family="sans-serif" font-size="12">{keys}{time}</svg>\n'


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--heads", default="9/3/64")
    parser.add_argument("--longest", type=int, default=LENGTHS[-1])
    parser.add_argument("--out", default="docs/growth.svg")
    args = parser.parse_args()
    lengths = [n for n in LENGTHS if n <= args.longest]
    flat = [measure(args, n, ["--chunk", str(RATIO)]) for n in lengths]
    deep = []
    for n in lengths:
        levels = math.ceil(math.log(n / 8, 4))
        deep.append(measure(args, n, ["--chunk", ",".join(["8"] + ["4"] * (levels - 1)), "--budget", str(BUDGET)]))
    print("| tokens | SSA keys | SSA us | H-SSA keys | H-SSA us | dense us |\n|---:|---:|---:|---:|---:|---:|")
    for a, b in zip(flat, deep):
        print(f"| {a['n']} | {a['keys']:.0f} | {a['us']:.0f} | {b['keys']:.0f} | {b['us']:.0f} | {a['dense_us']:.0f} |")
    print(f"SSA: keys = a + b N / {RATIO}, R^2 {fit([n / RATIO for n in lengths], [r['keys'] for r in flat])[2]:.5f}")
    print(f"H-SSA: keys = a + b log N, R^2 {fit([math.log(n) for n in lengths], [r['keys'] for r in deep])[2]:.5f}")
    pathlib.Path(args.out).write_text(draw(flat, deep))


if __name__ == "__main__":
    main()
