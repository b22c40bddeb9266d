"""Hand-drawn cases from the specification, and the reference against second formulations of itself.

Run: python -m unittest test_reference (in this folder; numpy is enough).
"""

import math
import unittest

import numpy

from cases import choose, layout_cases, layout_of, selection_cases
from layout import RAW, Layout, chunk_spans, gist_places, lay_out_pieces, opens_a_word, parse_laid
from make_golden import level_text
from mask import GistMask, sink_count
from select_chunks import Options, Tree, attended_keys, keep_best, pivot_scores, places_at
from select_chunks import select_gists

GIST_IDS = [200, 201, 202]


def levels_of(text):
    return [RAW if sign == "." else int(sign) for sign in text]


def drawn(n_tokens, chunk_sizes, sink, flags=None):
    """The laid sequence as '.' and digits; flags as a string of 0 and 1."""
    boundaries = None if flags is None else [[flag == "1" for flag in flags]]
    pieces = [list(range(n_tokens))]
    layout = lay_out_pieces(pieces, [], chunk_sizes, sink, GIST_IDS, boundaries)
    return level_text(layout.levels)


class LayoutByHand(unittest.TestCase):
    def test_plain_chunks_of_four(self):
        self.assertEqual(drawn(0, [4], 0), "")
        self.assertEqual(drawn(1, [4], 0), ".0")
        self.assertEqual(drawn(4, [4], 0), "....0")
        self.assertEqual(drawn(8, [4], 0), "....0....0")
        self.assertEqual(drawn(9, [4], 0), "....0....0.0")
        self.assertEqual(drawn(9, [4], 1), ".....0....0")
        self.assertEqual(drawn(9, [4], 2), "......0...0")
        self.assertEqual(drawn(9, [4], 3), ".......0..0")
        self.assertEqual(drawn(3, [4], 3), "...0")
        self.assertEqual(drawn(2, [4], 3), "..0")

    def test_levels_close_together_at_the_end(self):
        self.assertEqual(drawn(8, [2, 2], 0), "..0..01..0..01")
        self.assertEqual(drawn(9, [2, 2], 0), "..0..01..0..01.01")
        self.assertEqual(drawn(4, [2, 2], 0), "..0..01")
        self.assertEqual(drawn(3, [2, 2], 0), "..0.01")
        self.assertEqual(drawn(10, [2, 2, 2], 0), "..0..01..0..012..012")
        self.assertEqual(drawn(2, [2, 1, 1, 1], 0), "..0123")

    def test_ids_positions_and_chunks(self):
        layout = lay_out_pieces([[10, 11, 12]], [13], [2, 2], 0, GIST_IDS)
        self.assertEqual(layout.ids, [10, 11, 200, 12, 200, 201, 13])
        self.assertEqual(layout.positions, [0, 1, 1, 2, 2, 2, 3])
        self.assertEqual(layout.chunks, [[0, 0, 2], [0, 3, 4], [1, 2, 5]])
        self.assertEqual(layout.prefix_end, 6)

    def test_higher_gists_start_no_chunk(self):
        #         0123456789...
        levels = "..0..012..012"
        self.assertEqual(
            chunk_spans(levels_of(levels)),
            [[0, 0, 2], [0, 3, 5], [1, 2, 6], [2, 6, 7], [0, 8, 10], [1, 10, 11], [2, 11, 12]],
        )

    def test_words(self):
        #   place 4 is inside a word, the next word opens at 5; then 9, and two on at 11
        self.assertEqual(drawn(12, [4], 0, "000001000001"), ".....0......0.0")
        #   a boundary in reach of c0 // 2 = 2 tokens alone
        self.assertEqual(drawn(12, [5], 0, "000000001000"), ".....0.....0..0")
        #   one token a chunk: no place to move to
        self.assertEqual(drawn(3, [1], 0, "000"), ".0.0.0")
        #   near the end: the word opens 3 on, 4 tokens are left, so half way: 2 on
        self.assertEqual(drawn(10, [6], 0, "0000000001"), "........0..0")
        #   a boundary at the end itself is not before the end
        self.assertEqual(drawn(8, [6], 0, "00000000"), "......0..0")
        #   the sinks shift the count, not the words
        self.assertEqual(drawn(9, [4], 2, "000000010"), ".......0..0")

    def test_word_boundaries(self):
        for text in ["", " a", "\tb", "\n", "\r\n", ".", ",x", "\u2014", '"', "'s", "(", "}", " "]:
            self.assertTrue(opens_a_word(text), repr(text))
        for text in [
            "a",
            "\ufffd",
            "\u00a0a",
            "\u3000",
            "\u2013",
            "/",
            "<s>",
            "\u201c",
            "\x0b",
            "_",
        ]:
            self.assertFalse(opens_a_word(text), repr(text))

    def test_pieces_close_all_levels_and_count_anew(self):
        layout = lay_out_pieces([[1] * 5, [2] * 3], [3], [2, 2], 1, GIST_IDS)
        self.assertEqual(level_text(layout.levels), "...0..01" + "..0.01" + ".")
        self.assertEqual(layout.chunks[3:], [[0, 8, 10], [0, 11, 12], [1, 10, 13]])

    def test_empty_system_text(self):
        pieces = [[7], [2] * 6, [3] * 2]
        joined = lay_out_pieces(pieces, [], [2], 3, GIST_IDS, bos_id=7)
        self.assertEqual(level_text(joined.levels), "...0..0..0" + "..0")
        own = lay_out_pieces(pieces, [], [2], 3, GIST_IDS, bos_id=None)
        self.assertEqual(level_text(own.levels), ".0" + "..0..0..0" + "..0")
        alone = lay_out_pieces([[7]], [5], [2], 3, GIST_IDS, bos_id=7)
        self.assertEqual(level_text(alone.levels), ".0.")

    def test_parse_laid(self):
        layout = parse_laid([10, 200, 201, 202, 202, 11], [2, 2, 2, 2], GIST_IDS)
        self.assertEqual(level_text(layout.levels), ".0123.")
        self.assertEqual(layout.prefix_end, 5)
        self.assertEqual(parse_laid([200, 5], [2], GIST_IDS).positions, [-1, 0])
        for ids, chunk_sizes in [([10, 201], [2, 2]), ([10, 200, 201], [2]), ([10, 200], [2, 2])]:
            with self.assertRaises(ValueError):
                parse_laid(ids, chunk_sizes, GIST_IDS)


class LayoutAgain(unittest.TestCase):
    """The rules of section 2 once more, token by token instead of place by place."""

    def test_streamed(self):
        for case in layout_cases(1000, seed=21):
            layout = layout_of(case)
            raw = [t for t in layout.ids if t not in GIST_IDS]
            given = [t for piece in case["pieces"] for t in piece if t not in GIST_IDS]
            self.assertEqual(raw, given + case["suffix"])
            if case["laid"] or case["bos"] is not None:
                continue
            flags = case["boundary"] or [None] * len(case["pieces"])
            text, sink = "", case["sink"]
            for piece, piece_flags in zip(case["pieces"], flags):
                text += streamed(len(piece), case["chunk"], sink, piece_flags)
                sink = 0
            self.assertEqual(level_text(layout.levels), text + "." * len(case["suffix"]), case)

    def test_plain_places_are_even(self):
        self.assertEqual(gist_places(20, 6, 3, None), [9, 15, 20])


def streamed(n_tokens, chunk_sizes, sink, flags):
    text, counted, countdown = "", 0, None
    for done in range(1, n_tokens + 1):  # `done` raw tokens copied so far
        text += "."
        counted += done > sink
        at_end = done == n_tokens
        if countdown is None and counted == chunk_sizes[0] and not at_end:
            countdown = steps_to_word(flags, done, chunk_sizes[0], n_tokens)
        elif countdown is not None:
            countdown -= 1
        if at_end or countdown == 0:
            text = close_levels(text + "0", chunk_sizes, at_end)
            counted, countdown = 0, None
    return text


def steps_to_word(flags, done, c0, n_tokens):
    if flags is None:
        return 0
    nearest = [s for s in range(c0 // 2 + 1) if done + s < n_tokens and flags[done + s] == "1"]
    return min(nearest[0], math.ceil((n_tokens - done) / 2)) if nearest else 0


def close_levels(text, chunk_sizes, at_end):
    for level in range(1, len(chunk_sizes)):
        since = text[text.rfind(str(level)) + 1 :]
        if not at_end and since.count(str(level - 1)) < chunk_sizes[level]:
            break
        text += str(level)
    return text


class MaskByHand(unittest.TestCase):
    def seen(self, text, q, chunk_sizes, sink=0, previous=1):
        mask = GistMask(levels_of(text), chunk_sizes, sink, previous)
        return [k for k in range(len(text)) if mask.visible(q, k)]

    def test_one_level(self):
        text = "..0..0..0."
        self.assertEqual(self.seen(text, 0, [2]), [0])
        self.assertEqual(self.seen(text, 3, [2]), [0, 1, 2, 3])
        self.assertEqual(self.seen(text, 6, [2]), [2, 3, 4, 5, 6])
        self.assertEqual(self.seen(text, 8, [2]), [2, 3, 4, 5, 6, 7, 8])
        self.assertEqual(self.seen(text, 9, [2]), [2, 5, 6, 7, 8, 9])
        self.assertEqual(self.seen(text, 9, [2], sink=2), [0, 1, 2, 5, 6, 7, 8, 9])
        self.assertEqual(self.seen(text, 9, [2], previous=0), [2, 5, 8, 9])
        self.assertEqual(self.seen(text, 9, [2], previous=3), list(range(10)))

    def test_two_levels(self):
        #       0  3   7  10  14
        text = "..0..01..0..01."
        self.assertEqual(self.seen(text, 14, [2, 2]), [6, 9, 10, 11, 12, 13, 14])
        self.assertEqual(self.seen(text, 13, [2, 2]), [2, 5, 6, 9, 12, 13])
        self.assertEqual(self.seen(text, 12, [2, 2]), [2, 5, 6, 7, 8, 9, 10, 11, 12])
        self.assertEqual(self.seen(text, 7, [2, 2]), [2, 3, 4, 5, 6, 7])
        self.assertEqual(self.seen(text, 6, [2, 2]), [2, 5, 6])
        self.assertEqual(self.seen(text, 7, [2, 2], previous=0), [6, 7])
        self.assertEqual(self.seen(text, 14, [2, 2], previous=0), [6, 13, 14])
        self.assertEqual(self.seen(text, 13, [2, 2], sink=1), [0, 2, 5, 6, 9, 12, 13])

    def test_three_levels(self):
        #       0 2 4  7 9 11
        text = ".0.012.0.012."
        self.assertEqual(self.seen(text, 5, [1, 2, 2]), [4, 5])
        self.assertEqual(self.seen(text, 4, [1, 2, 2]), [1, 3, 4])
        # the level-2 gist at 11: gists of level 2, its own level-1 child, and the group before it
        self.assertEqual(self.seen(text, 11, [1, 2, 2]), [4, 5, 10, 11])
        # the suffix: level 2; chunks of level 0 from 7 on; level-0 gists of the group before; the
        # level-1 gist of the level-2 group before
        self.assertEqual(self.seen(text, 12, [1, 2, 2]), [5, 7, 8, 9, 10, 11, 12])

    def test_sinks(self):
        levels = levels_of(".......0....0.")
        self.assertEqual(sink_count(levels, 4, -1), 3)
        self.assertEqual(sink_count(levels_of("..0."), 4, -1), 0)
        self.assertEqual(sink_count(levels_of("...."), 4, -1), 0)
        self.assertEqual(
            self.seen(".......0....0.", 13, [4], sink=-1), [0, 1, 2, 7, 8, 9, 10, 11, 12, 13]
        )
        # whatever token stands there
        self.assertEqual(
            self.seen(".01..01..01.", 11, [2, 2], sink=2, previous=0), [0, 1, 2, 6, 10, 11]
        )

    def test_without_gists(self):
        self.assertEqual(self.seen("....", 3, [4], sink=0, previous=0), [0, 1, 2, 3])


class MaskAgain(unittest.TestCase):
    """Section 4 once more, all pairs at a time."""

    def test_all_pairs(self):
        for case in layout_cases(1000, seed=22):
            levels = layout_of(case).levels
            arguments = (levels, case["chunk"], case["mask_sink"], case["previous"])
            self.assertEqual(GistMask(*arguments).dense(), all_pairs(*arguments).tolist(), case)


def all_pairs(levels, chunk_sizes, sink, previous):
    n, top = len(levels), len(chunk_sizes) - 1
    level = numpy.array(levels, dtype=int).reshape(n)
    causal = numpy.tri(n, dtype=bool)
    if (level == RAW).all():
        return causal
    q, k = level[:, None], level[None, :]
    of_level = [level == i for i in range(top + 1)]
    before = [numpy.cumsum(found) - found for found in of_level]
    distance = [count[:, None] - count[None, :] for count in before]
    seen = (k == top) | ((q < 1) & (distance[0] <= previous))
    for i in range(top):
        above = numpy.cumsum(level > i)
        seen |= (k == i) & (above[:, None] == above[None, :])
        seen |= (q == i + 1) & (k == i) & (distance[i + 1] == 0)
        seen |= (q <= i + 1) & (k == i) & (distance[i + 1] >= 1) & (distance[i + 1] <= previous)
    if sink < 0:
        sink = int(of_level[0].argmax()) - chunk_sizes[0]
    seen |= numpy.arange(n)[None, :] < sink
    return seen & causal


class SelectionByHand(unittest.TestCase):
    def test_budgets(self):
        formula = Options()
        self.assertEqual(places_at(0, 100, 20, 2, [4], formula), 4)  # 100/4/2/4 = 3.1, + 1; cap 5
        self.assertEqual(places_at(0, 100, 12, 2, [4], formula), 3)  # cap 12 // 4
        self.assertEqual(places_at(0, 100, 3, 2, [4], formula), 1)  # cap max(1, 0)
        self.assertEqual(places_at(0, 100, 50, 2, [4, 2], formula), 2)  # 100/8/2/4 = 1.6, + 1
        self.assertEqual(places_at(1, 100, 50, 2, [4, 2, 2], formula), 2)
        self.assertEqual(places_at(2, 100, 50, 2, [4, 2, 2], formula), 3)
        self.assertEqual(places_at(2, 100, 8, 2, [4, 2, 2], formula), 2)
        self.assertEqual(places_at(0, 128, 99, 2, [4], Options(ratio=8)), 3)  # 128/8/2/4 = 2, + 1
        self.assertEqual(places_at(0, 128, 2, 2, [4], Options(budget=64)), 8)  # no cap
        self.assertEqual(places_at(0, 128, 2, 2, [4], Options(budget=7)), 1)

    def kept(self, scores, k, mass=None):
        return keep_best(scores, range(len(scores)), k, Options(mass=mass))

    def test_best(self):
        nan, inf = math.nan, math.inf
        self.assertEqual(self.kept([1, 1, 1], 2), [0, 1])
        self.assertEqual(self.kept([0.0, -0.0, 1], 2), [2, 0])
        self.assertEqual(self.kept([nan, 1, nan, 2, 0], 2), [3, 1])
        self.assertEqual(self.kept([nan, -inf], 2), [1])
        self.assertEqual(self.kept([nan, nan], 1), [])
        self.assertEqual(self.kept([-inf, inf, inf, 5], 3), [1, 2, 3])
        self.assertEqual(self.kept([3, 4], 5), [1, 0])

    def test_nucleus(self):
        scores = [math.log(0.5), math.log(0.3), math.log(0.2)]
        self.assertEqual(self.kept(scores, 0, mass=0.4), [0])
        self.assertEqual(self.kept(scores, 0, mass=0.6), [0, 1])
        self.assertEqual(self.kept(scores, 0, mass=0.9), [0, 1, 2])
        self.assertEqual(self.kept([0.0, -1000.0], 0, mass=1.0), [0, 1])

    def test_descent_and_union(self):
        tree = Tree(levels_of("..0..01..0..01.."), 2)
        self.assertEqual(tree.children[1], [[0, 1], [2, 3]])
        self.assertEqual(tree.raw_span, [(0, 2), (3, 5), (7, 9), (10, 12)])
        level_0 = [[9, 8, 1, 2], [9, 9, 5, 5]]
        level_1 = [[0, 1], [1, 0]]
        kept, union = select_gists(tree, [level_0, level_1], 16, [2, 2], Options(budget=4))  # k = 1
        self.assertEqual(kept, [[[3], [1]], [[0], [0]]])
        self.assertEqual(union, [[0, 3], [0, 1]])
        group = Options(budget=4, select="group-sum")
        kept, union = select_gists(tree, [level_0, level_1], 16, [2, 2], group)
        self.assertEqual(union, [[0], [0]])  # metas tie at 1: the lower; 18 beats 17

    def test_attended(self):
        #                                       0  3   7  10
        layout = Layout([2, 2], levels=levels_of("..0..01..0..01.."), prefix_end=14)
        tree = Tree(layout.levels, 2)
        keys = attended_keys(layout, tree, [[1], [0]], 15, False, sink=1, previous=0)
        self.assertEqual(keys, [0, 3, 4, 5, 6, 14, 15])
        keys = attended_keys(layout, tree, [[1], [0]], 14, False, sink=1, previous=1)
        self.assertEqual(keys, [0, 3, 4, 5, 6, 10, 11, 14])
        # a gist among the sinks: attended by the prompt's suffix, not by generated tokens
        keys = attended_keys(layout, tree, [[1], [0]], 14, False, sink=3, previous=0)
        self.assertEqual(keys, [0, 1, 2, 3, 4, 5, 6, 14])
        keys = attended_keys(layout, tree, [[1], [0]], 14, True, sink=3, previous=0)
        self.assertEqual(keys, [0, 1, 3, 4, 5, 6, 14])

    def test_pivots(self):
        tree = Tree(levels_of("..0..01."), 2)
        keys = numpy.arange(16, dtype=float).reshape(8, 2) - 6
        query = numpy.array([1.0, -2.0])
        self.assertEqual(pivot_scores(tree, query, keys, "gist")[1], [6 - 2 * 7])
        mean = pivot_scores(tree, query, keys, "mean")
        self.assertEqual(mean[0], [-5 + 2 * 4, 1 - 2 * 2])
        self.assertEqual(mean[1], [-2 + 2 * 1])
        quest = pivot_scores(tree, query, keys, "quest")
        self.assertEqual(quest[0], [-4 + 2 * 5, 2 - 2 * 1])
        self.assertEqual(quest[1], [2 + 2 * 5])
        self.assertEqual(pivot_scores(tree, query, keys, "recent"), [[0.0, 1.0], [0.0]])


class SelectionProperties(unittest.TestCase):
    def test_random_cases(self):
        for case in selection_cases(1000, seed=23):
            layout, options = case["layout"], case["options"]
            kept, union = choose(case)
            for head in kept:
                for level in range(1, layout.n_levels):
                    tree = Tree(layout.levels, layout.n_levels)
                    allowed = {c for g in head[level] for c in tree.children[level][g]}
                    self.assertLessEqual(set(head[level - 1]), allowed)
            keys = attended_keys(
                layout,
                Tree(layout.levels, layout.n_levels),
                union,
                case["query"],
                case["generated"],
                case["sink"],
                case["previous"],
            )
            if (
                options.mass is not None
                and options.mass >= 1
                and case["kind"] in ("normal", "ties")
            ):
                self.assertEqual(keys, list(range(case["query"] + 1)))


if __name__ == "__main__":
    unittest.main()
