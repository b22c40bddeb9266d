"""Random cases, the same for the same seed: sequences to lay out, and scores to select from.

A layout case is a dictionary (the fields are described in make_golden.py); so is a selection case.
"""

import math
import random

import numpy

from layout import gist_id_of, lay_out_pieces, parse_laid
from select_chunks import Options, Tree, select_gists

GIST_IDS = [200, 201, 202]
BOS_ID = 1
RAW_IDS = range(10, 100)


# ------------------------------------------------------------ layout and mask


def layout_cases(count, seed=1):
    generator = random.Random(seed)
    return [layout_case(generator) for _ in range(count)]


def layout_case(generator):
    n_levels = generator.choices([1, 2, 3, 4], weights=[40, 33, 24, 3])[0]
    chunk_sizes = [generator.choice([1, 2, 2, 3, 4, 4, 5, 7, 8])]
    chunk_sizes += [generator.choice([1, 2, 2, 3, 4]) for _ in range(n_levels - 1)]
    sink = generator.choice([0, 0, 1, 2, 3, 3, 3, 4, 5])
    mask_sink = generator.choices([sink, -1, generator.randrange(6)], weights=[70, 18, 12])[0]
    case = {
        "laid": generator.random() < 0.15,
        "chunk": chunk_sizes,
        "sink": sink,
        "mask_sink": mask_sink,
        "previous": generator.choice([0, 1, 1, 1, 2, 3]),
        "gist_ids": GIST_IDS,
        "bos": None,
        "boundary": None,
    }
    if case["laid"]:
        case["pieces"] = [irregular_ids(generator, chunk_sizes)]
    else:
        case["pieces"] = random_pieces(generator, chunk_sizes, sink)
        if generator.random() < 0.12:
            case["bos"] = BOS_ID
            case["pieces"].insert(0, [BOS_ID])
            if generator.random() < 0.3:
                case["pieces"].insert(0, [])
        case["boundary"] = random_boundaries(generator, case["pieces"])
    case["suffix"] = random_ids(generator, generator.choice([0, 0, 1, 3, 8]))
    return case


def random_ids(generator, count):
    return [generator.choice(RAW_IDS) for _ in range(count)]


def random_pieces(generator, chunk_sizes, sink):
    """One to five pieces: tiny, around a whole number of chunks or groups, or any length."""
    pieces = []
    whole_group = math.prod(chunk_sizes)
    for _ in range(generator.choices([1, 2, 3, 5], weights=[60, 15, 15, 10])[0]):
        kind = generator.choice(["tiny", "ragged", "any", "any"])
        if kind == "tiny":
            length = generator.randrange(4)
        elif kind == "ragged":
            unit = generator.choice([chunk_sizes[0], whole_group])
            length = sink + unit * generator.randrange(4) + generator.choice([-1, 0, 1, 2])
        else:
            length = generator.randrange(60)
        pieces.append(random_ids(generator, min(max(length, 0), 70)))
    return pieces


def random_boundaries(generator, pieces):
    """None (plain counting), or a string of 0 and 1 per piece: does this token open a word?"""
    if generator.random() < 0.3:
        return None
    share = generator.choice([0.0, 0.1, 0.2, 0.35, 0.35, 0.6, 1.0])
    return ["".join("01"[generator.random() < share] for _ in piece) for piece in pieces]


def irregular_ids(generator, chunk_sizes):
    """Ids that hold their gists already, chunks and groups of any size; every level closes."""
    ids = []
    laid = [0] * len(chunk_sizes)
    limit = [generator.randint(1, 2 * size) for size in chunk_sizes]
    n_chunks = generator.randrange(12)
    for chunk in range(n_chunks):
        ids += random_ids(generator, generator.randint(1, 2 * chunk_sizes[0]))
        is_end = chunk == n_chunks - 1
        for level in range(len(chunk_sizes)):
            if level > 0:
                if not is_end and laid[level - 1] < limit[level]:
                    break
                laid[level - 1] = 0
                limit[level] = generator.randint(1, 2 * chunk_sizes[level])
            ids.append(gist_id_of(level, GIST_IDS))
            laid[level] += 1
    return ids


def layout_of(case):
    """The reference's answer to a layout case."""
    if case["laid"]:
        ids = [token for piece in case["pieces"] for token in piece] + case["suffix"]
        return parse_laid(ids, case["chunk"], case["gist_ids"])
    boundaries = None
    if case["boundary"] is not None:
        boundaries = [[flag == "1" for flag in flags] for flags in case["boundary"]]
    return lay_out_pieces(
        case["pieces"],
        case["suffix"],
        case["chunk"],
        case["sink"],
        case["gist_ids"],
        boundaries,
        case["bos"],
    )


# ------------------------------------------------------------ selection


def selection_cases(count, seed=2):
    generator = random.Random(seed)
    cases = []
    while len(cases) < count:
        case = selection_case(generator)
        if is_decided(case):
            cases.append(case)
    return cases


def selection_case(generator):
    layout = selection_layout(generator)
    n_tokens = len(layout.ids)
    query = generator.randrange(layout.prefix_end, n_tokens)
    prompt_end = generator.randint(layout.prefix_end, n_tokens)
    generated = query >= prompt_end
    group_size = generator.choice([1, 2, 2, 3, 4, 7])
    options = random_options(generator)
    kind = random_score_kind(generator, options)
    tree = Tree(layout.levels, layout.n_levels)
    return {
        "layout": layout,
        "query": query,
        "generated": generated,
        "n_tokens": query + 1 if generated else prompt_end,
        "sink": generator.choice([0, 1, 3, 3, 5, -1]),
        "previous": generator.choice([0, 1, 1, 2]),
        "options": options,
        "kind": kind,
        "scores": [
            random_scores(generator, kind, group_size, tree.n_gists(i))
            for i in range(layout.n_levels)
        ],
    }


def selection_layout(generator):
    """A prefix (now and then empty, or of one chunk) with at least one suffix token."""
    while True:
        case = layout_case(generator)
        case["suffix"] = random_ids(generator, generator.randint(1, 9))
        layout = layout_of(case)
        if len(layout.ids) <= 110:
            return layout


def random_options(generator):
    options = Options()
    options.select = generator.choices(
        ["head", "group-sum", "group-max", "group-softmax"], weights=[60, 16, 12, 12]
    )[0]
    options.upper_k = generator.choice([1, 2, 3, 3])
    rule = generator.choice(["formula", "formula", "ratio", "budget", "mass"])
    if rule == "ratio":
        options.ratio = generator.choice([1, 2, 4, 8, 16])
    elif rule == "budget":
        options.budget = generator.choice([1, 2, 7, 16, 32, 64, 1000])
    elif rule == "mass" and options.select != "group-softmax":
        options.mass = generator.choice([0.01, 0.3, 0.5, 0.9, 0.99, 1.0, 2.0])
    return options


def random_score_kind(generator, options):
    kinds = [
        "normal",
        "normal",
        "ties",
        "equal",
        "infinities",
        "nan",
        "mixed",
        "all-nan",
        "all-low",
    ]
    if options.select == "head" and options.mass is None:
        kinds += ["tiny", "huge"]  # sums of these would round, or run over in float32 alone
    return generator.choice(kinds)


def random_scores(generator, kind, group_size, n_gists):
    return [[random_score(generator, kind) for _ in range(n_gists)] for _ in range(group_size)]


def random_score(generator, kind):
    """One float32, as a Python float. Eighths add up without rounding."""
    eighths = generator.randrange(-24, 25) / 8
    if kind == "normal":
        return float(numpy.float32(generator.gauss(0, 3)))
    if kind == "ties":
        return generator.choice([-1.0, -0.0, 0.0, 0.5, 1.0])
    if kind == "equal":
        return 0.25
    if kind == "infinities":
        return generator.choice([eighths, eighths, math.inf, -math.inf])
    if kind == "nan":
        return generator.choice([eighths, eighths, math.nan])
    if kind == "mixed":
        return generator.choice([eighths, math.inf, -math.inf, math.nan])
    if kind == "all-nan":
        return math.nan
    if kind == "all-low":
        return -math.inf
    if kind == "tiny":
        return generator.choice([0.0, -0.0, 2.0**-149, -(2.0**-149), 2.0**-126])
    if kind == "huge":
        largest = float(numpy.finfo(numpy.float32).max)
        return generator.choice([largest, -largest, math.inf, 1.0e30])
    raise ValueError(kind)


def choose(case, options=None, reverse_heads=False):
    """The reference's (kept by head, union) for a selection case."""
    layout = case["layout"]
    scores = [heads[::-1] if reverse_heads else heads for heads in case["scores"]]
    tree = Tree(layout.levels, layout.n_levels)
    return select_gists(
        tree, scores, case["n_tokens"], layout.chunk_sizes, options or case["options"]
    )


def is_decided(case):
    """False where rounding decides: sums in another order, a wider softmax, a mass a hair away."""
    options = case["options"]
    _, union = choose(case)
    variants = [choose(case, reverse_heads=True)]
    masses = [options.mass]
    if options.mass is not None and 0 < options.mass < 1:
        masses = [options.mass - 1e-4, options.mass, options.mass + 1e-4]
    for mass in masses:
        for dtype in (numpy.float32, numpy.float64):
            changed = Options(**{**options.__dict__, "mass": mass, "softmax_dtype": dtype})
            variants.append(choose(case, changed))
    return all(variant[1] == union for variant in variants)
