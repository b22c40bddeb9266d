"""Writes tests/golden/gist/layouts.json and selection.json from the reference in this folder.

Usage: python make_golden.py [OUTPUT_FOLDER]      (needs numpy; same files for the same code)

layouts.json: {"cases": [CASE, ...]}. Of a CASE, input:
  laid      false: `pieces` are raw tokens to be laid out. true: `pieces` (one) holds its gists
            already; chunks and groups have any size; levels >= 2 share gist_ids[2].
  pieces    [[id, ...], ...]  the prefix, gisted piece by piece; may hold empty pieces, or be empty
  suffix    [id, ...]         raw, follows behind
  chunk     [c0, c1, ...]     chunk sizes, 1 to 4 levels
  sink      sink count of the layout, >= 0
  mask_sink sink count of the mask; negative: everything before (first level-0 gist - c0)
  previous  P, previous chunks that stay visible raw
  gist_ids  [A, B, C]         ids of level 0, 1 and >= 2
  bos       id of BOS, or null if there is none: a first (non-empty) piece that is BOS alone gets no
            gist and joins the first chunk of the next piece, which counts its own tokens alone
  boundary  null: plain counting. Else one string a piece, one character a token: '1' if the token
            opens a word (the place in front of it is a word boundary)
Output:
  ids, positions  [n]         the whole sequence, suffix included
  levels    string of n characters: '.' raw, else the digit of the gist's level
  chunks    [[level, begin, end], ...]  as `ssa layout` prints them
  prefix_end  the prefix is ids[0:prefix_end]
  mask_fnv  16 hex digits: FNV-1a (64 bit, offset cbf29ce484222325, prime 100000001b3) over n * n
            bytes, row by row (rows are queries), 1 where the query sees the key, else 0
  mask_bits only where n <= 40: the same n * n values as bits, value number j = q * n + k is bit
            j % 8 (least significant first) of byte j / 8; the last byte is filled with 0; hex,
            two digits a byte, lower case

selection.json: {"cases": [CASE, ...]}. One CASE is one query of one key/value head. Input:
  levels, chunk, prefix_end   the sequence, as above
  query     index of the query, >= prefix_end
  generated false: a suffix token of the prompt (the prompt may end before the last token of
            `levels`, but not before `query`). true: a generated token
  n_tokens  N of section 6.1, already worked out
  sink, previous              as mask_sink and previous above; unfolding takes 3 for a negative sink
  select    "head" | "group-sum" | "group-max" | "group-softmax" (sum of the heads' softmaxes)
  ratio     number or null (c0, or c0 * c1 with more levels)
  budget    T or null: fixed budget, k = max(1, floor(T / (G * c0))) at levels 0 and 1, no cap
  mass      p or null: nucleus
  upper_k   k of level 2 and above (capped by the formula's cap; not under `budget`)
  kind      what the scores are like; for reading, and for leaving kinds out
  scores    [level][head][gist]: finite float32 values as numbers, else "inf", "-inf", "nan"
Output:
  places    [k of each level]; null under `mass`
  kept      [head][level] -> sorted gist numbers within the level; one "head" in the group modes
  union     [level] -> the same over all heads; union[0] are the chunks kept raw
  attended  [[begin, end), ...]  the keys that the query attends, as the fewest ranges, in order
Every case keeps its answer when heads are added in another order, the softmax is taken in float64, or
the mass moves by 1e-4, so that rounding decides none.
"""

import json
import math
import os
import sys

from cases import choose, layout_cases, layout_of, selection_cases
from layout import RAW
from mask import GistMask
from select_chunks import Tree, attended_keys, places_at

N_CASES = 300
MAX_BITS_TOKENS = 40


def level_text(levels):
    return "".join("." if level == RAW else str(level) for level in levels)


def fnv1a(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def packed_bits(values):
    packed = bytearray((len(values) + 7) // 8)
    for j, value in enumerate(values):
        packed[j // 8] |= int(value) << (j % 8)
    return packed.hex()


def golden_layout(case):
    layout = layout_of(case)
    mask = GistMask(layout.levels, case["chunk"], case["mask_sink"], case["previous"])
    values = [int(value) for row in mask.dense() for value in row]
    answer = dict(case)
    answer.update(
        ids=layout.ids,
        positions=layout.positions,
        levels=level_text(layout.levels),
        chunks=layout.chunks,
        prefix_end=layout.prefix_end,
        mask_fnv=fnv1a(values),
    )
    if len(layout.ids) <= MAX_BITS_TOKENS:
        answer["mask_bits"] = packed_bits(values)
    return answer


def score_text(score):
    """A JSON number for finite scores; the shortest that reads back as the same double."""
    return score if math.isfinite(score) else str(score)


def ranges(indices):
    out = []
    for index in indices:
        if out and out[-1][1] == index:
            out[-1][1] = index + 1
        else:
            out.append([index, index + 1])
    return out


def golden_selection(case):
    layout, options = case["layout"], case["options"]
    tree = Tree(layout.levels, layout.n_levels)
    group_size = len(case["scores"][0])
    kept, union = choose(case)
    keys = attended_keys(
        layout, tree, union, case["query"], case["generated"], case["sink"], case["previous"]
    )
    places = [
        places_at(i, case["n_tokens"], tree.n_gists(i), group_size, layout.chunk_sizes, options)
        for i in range(layout.n_levels)
    ]
    return {
        "levels": level_text(layout.levels),
        "chunk": layout.chunk_sizes,
        "prefix_end": layout.prefix_end,
        **{name: case[name] for name in ("query", "generated", "n_tokens", "sink", "previous")},
        **{
            name: getattr(options, name)
            for name in ("select", "ratio", "budget", "mass", "upper_k")
        },
        "kind": case["kind"],
        "scores": [[[score_text(s) for s in head] for head in level] for level in case["scores"]],
        "places": None if options.mass is not None else places,
        "kept": kept,
        "union": union,
        "attended": ranges(keys),
    }


def write(path, cases):
    with open(path, "w") as file:
        lines = ",\n".join(
            json.dumps(case, separators=(",", ":"), allow_nan=False) for case in cases
        )
        file.write('{"cases":[\n' + lines + "\n]}\n")
    print(f"{path}: {len(cases)} cases, {os.path.getsize(path)} bytes")


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    folder = sys.argv[1] if len(sys.argv) > 1 else os.path.join(here, "../../tests/golden/gist")
    os.makedirs(folder, exist_ok=True)
    write(
        os.path.join(folder, "layouts.json"), [golden_layout(c) for c in layout_cases(N_CASES, 11)]
    )
    cases = selection_cases(N_CASES, 12)
    write(os.path.join(folder, "selection.json"), [golden_selection(c) for c in cases])


if __name__ == "__main__":
    main()
