"""Selective unfolding, section 6: which gists a suffix query keeps, and which keys it attends.

Scores come in as plain numbers, `scores[level][head][gist]`, for all gists of every level and the G
query heads of one group. Gists are named by their number within their level, in order.
"""

import math
from dataclasses import dataclass

import numpy

from layout import RAW, chunk_spans, gists_closed_by
from mask import GistMask


@dataclass
class Options:
    """One budget rule: `mass` if set, else `budget` if set, else the formula with `ratio`."""

    ratio: float = None  # None: c0, or c0 * c1 with more levels
    budget: int = None  # fixed: tokens a key/value head and step (T)
    mass: float = None  # nucleus: keep the best up to this mass
    upper_k: int = 3  # the k of level 2 and above
    select: str = "head"  # head | group-sum | group-max | group-softmax
    softmax_dtype: type = numpy.float32  # 6.2; tests widen it to see whether rounding decides


class Tree:
    """The gists of a sequence, level by level: where they stand and what they close."""

    def __init__(self, levels, n_levels):
        self.n_levels = n_levels
        self.index = [[t for t, found in enumerate(levels) if found == i] for i in range(n_levels)]
        spans = {end: (begin, end) for _, begin, end in chunk_spans(levels)}
        # raw_span[c]: the raw tokens of level-0 chunk c, [begin, end)
        self.raw_span = [spans[t] for t in self.index[0]]
        # children[i][g]: numbers of the level-(i-1) gists that gist g of level i closes
        self.children = [[] for _ in range(n_levels)]
        for i in range(1, n_levels):
            number = {t: g for g, t in enumerate(self.index[i - 1])}
            self.children[i] = [
                [number[t] for t in gists_closed_by(levels, own)] for own in self.index[i]
            ]

    def n_gists(self, level):
        return len(self.index[level])


# ------------------------------------------------------------ budgets (6.1, and issue 4)


def places_at(level, n_tokens, n_gists, group_size, chunk_sizes, options):
    """k of one level. n_tokens is N, n_gists is n: all gists of the level in the sequence."""
    c0 = chunk_sizes[0]
    if options.budget is not None:  # fixed budget: no cap
        return max(1, options.budget // (group_size * c0)) if level <= 1 else options.upper_k
    ratio = options.ratio
    if ratio is None:
        ratio = c0 * chunk_sizes[1] if len(chunk_sizes) > 1 else c0
    if level <= 1:
        k = math.floor(n_tokens / ratio / group_size / c0) + 1
    else:
        k = options.upper_k
    return min(k, max(1, n_gists // 4))


# ------------------------------------------------------------ keeping the best of one level (6.2)


def ranking(scores, competing):
    """The competing gists, best first. Ties: the lower number. NaN loses to every number and takes
    no place, so it is not in the ranking at all."""
    numbers = [g for g in competing if not math.isnan(scores[g])]
    return sorted(numbers, key=lambda g: (-float(scores[g]), g))


def softmax(values, dtype):
    """The limit where plain arithmetic has none: infinite values share all the mass, and
    values that are all -inf share it equally."""
    values = numpy.asarray(values, dtype=dtype)
    highest = values.max()
    if numpy.isinf(highest):
        weights = (values == highest).astype(dtype)
    else:
        weights = numpy.exp(values - highest)
    return weights / weights.sum(dtype=dtype)


def nucleus(scores, ranked, options):
    """The best up to and including the first at which the mass is reached."""
    if options.mass >= 1 or not ranked:
        return ranked
    shares = softmax([scores[g] for g in ranked], options.softmax_dtype)
    reached = options.softmax_dtype(0)
    for count, share in enumerate(shares, start=1):
        reached += share
        if reached >= options.mass:
            return ranked[:count]
    return ranked


def keep_best(scores, competing, k, options):
    ranked = ranking(scores, competing)
    return nucleus(scores, ranked, options) if options.mass is not None else ranked[:k]


# ------------------------------------------------------------ a group's heads together (6, modes)


def add_scores(values):
    total = values[0]
    for value in values[1:]:
        total = total + value
    return total


def largest_score(values):
    numbers = [value for value in values if not math.isnan(value)]
    return max(numbers) if numbers else math.nan


def softmax_over_level(head_scores, dtype):
    """One head's softmax over all gists of the level. A NaN score stays NaN and takes no mass."""
    numbers = [g for g, score in enumerate(head_scores) if not math.isnan(score)]
    shares = [math.nan] * len(head_scores)
    if numbers:
        for g, share in zip(numbers, softmax([head_scores[g] for g in numbers], dtype)):
            shares[g] = share
    return shares


def group_scores(head_scores, options):
    """One score per gist from [head][gist] scores of one level."""
    if not head_scores[0]:
        return []
    if options.select == "group-softmax":
        head_scores = [softmax_over_level(scores, options.softmax_dtype) for scores in head_scores]
    combine = largest_score if options.select == "group-max" else add_scores
    return [combine(list(values)) for values in zip(*head_scores)]


# ------------------------------------------------------------ the descent (6.2 to 6.4)


def descend(tree, level_scores, places, options):
    """Keep from the highest level down: kept[level], sorted. level_scores[level][gist]."""
    kept = [[] for _ in range(tree.n_levels)]
    for level in range(tree.n_levels - 1, -1, -1):
        if level == tree.n_levels - 1:
            competing = range(tree.n_gists(level))
        else:  # only children of kept gists compete
            competing = sorted(c for g in kept[level + 1] for c in tree.children[level + 1][g])
        kept[level] = sorted(keep_best(level_scores[level], competing, places[level], options))
    return kept


def select_gists(tree, scores, n_tokens, chunk_sizes, options):
    """(kept by head, union): kept[head][level] and union[level], sorted gist numbers.

    In group mode there is one choice for the group, listed as the only head."""
    group_size = len(scores[0])
    places = [
        places_at(i, n_tokens, tree.n_gists(i), group_size, chunk_sizes, options)
        for i in range(tree.n_levels)
    ]
    if options.select == "head":
        choices = [[scores[i][head] for i in range(tree.n_levels)] for head in range(group_size)]
    else:
        choices = [[group_scores(scores[i], options) for i in range(tree.n_levels)]]
    kept = [descend(tree, level_scores, places, options) for level_scores in choices]
    union = [sorted({g for head in kept for g in head[i]}) for i in range(tree.n_levels)]
    return kept, union


# ------------------------------------------------------------ the keys attended (6.3 to 6.6)


def attended_keys(layout, tree, union, q, generated, sink=3, previous=1, mask=None):
    """Sorted indices of the keys that suffix query q attends after unfolding.

    A negative sink stands for the gist mask alone; unfolding then uses 3 (section 4)."""
    levels = layout.levels
    mask = mask or GistMask(levels, layout.chunk_sizes, sink, previous)
    keys = set()
    for chunk in union[0]:  # 6.3: raw tokens of the kept level-0 chunks
        begin, end = tree.raw_span[chunk]
        keys.update(range(begin, end))
    for level in range(tree.n_levels):  # 6.3: and the kept gists of all levels
        keys.update(tree.index[level][g] for g in union[level])
    for k in range(q + 1):  # 6.5: always added
        is_raw = levels[k] == RAW
        if k < (sink if sink >= 0 else 3) and (is_raw or not generated):
            keys.add(k)  # a gist among the sinks is attended at prefill alone
        if is_raw and mask.visible(q, k):
            keys.add(k)
        if k >= layout.prefix_end:
            keys.add(k)
    return sorted(k for k in keys if k <= q)


# ------------------------------------------------------------ pivots: what the score is taken from


def raw_tokens_under(tree, level, gist):
    """All raw tokens that a gist of any level covers, through its children."""
    if level == 0:
        return list(range(*tree.raw_span[gist]))
    return [
        t for child in tree.children[level][gist] for t in raw_tokens_under(tree, level - 1, child)
    ]


def pivot_scores(tree, query, keys, pivot, seed=0):
    """scores[level][gist] of one head. query [head_dim]; keys [n_tokens, head_dim] of its key/value
    head, both rotated. No scaling.

    gist   q . key of the gist
    mean   q . mean of the raw keys it covers (at a higher level: of all raw tokens under it)
    quest  sum over channels of max(q * lowest, q * highest) of those keys
    recent the later chunk is better
    random any order, but the same for the same seed (no other program can be expected to agree)
    """
    generator = numpy.random.default_rng(seed)
    scores = []
    for level in range(tree.n_levels):
        scores.append([])
        for gist in range(tree.n_gists(level)):
            if pivot == "gist":
                score = query @ keys[tree.index[level][gist]]
            elif pivot == "recent":
                score = float(gist)
            elif pivot == "random":
                score = generator.random()
            else:
                raw_keys = keys[raw_tokens_under(tree, level, gist)]
                if pivot == "mean":
                    score = query @ raw_keys.mean(axis=0)
                elif pivot == "quest":
                    low, high = raw_keys.min(axis=0), raw_keys.max(axis=0)
                    score = numpy.maximum(query * low, query * high).sum()
                else:
                    raise ValueError(f"unknown pivot {pivot}")
            scores[level].append(float(score))
    return scores
