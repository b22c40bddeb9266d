"""Draws what `ssa eval sparsity --out FILE.json` wrote: attention sparsity, entropy, distance / bound and keys without gradient, means
of each layer's heads.

    python3 tools/studies/plot_sparsity.py FILE.json [more.json] --out plot.svg

Python's standard library alone.
"""

import argparse
import json
import pathlib

from line_plot import write_plot

PANELS = (("sparsity", "attention sparsity"), ("entropy", "entropy, nats"), ("ratio", "distance / bound"),
          ("keys_without_gradient", "keys without gradient"))


def means_of(result, measure):
    values = lambda layer: layer.get(measure, []) if measure == "keys_without_gradient" else [head[measure] for head in layer["heads"]]
    return [(layer["layer"], sum(values(layer)) / len(values(layer))) for layer in result["layers"] if values(layer)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", nargs="+", type=pathlib.Path)
    parser.add_argument("--out", required=True, type=pathlib.Path)
    args = parser.parse_args()
    results = [json.loads(path.read_text()) for path in args.results]
    labels = [f"{path.stem} ({result['method']})" for path, result in zip(args.results, results)]
    panels = [{"title": title, "x_name": "layer", "lines": [(label, means_of(result, measure)) for label, result in zip(labels, results)]}
              for measure, title in PANELS]
    write_plot(args.out, panels, labels)


if __name__ == "__main__":
    main()
