"""Who sees whom: the gist mask of section 4, rule by rule, for any number of levels."""

from layout import RAW


class GistMask:
    """The visibility rule over one sequence, suffix rows included.

    levels: RAW (-1) or the gist's level, one per token. `previous` is P, the number of previous
    chunks that stay visible raw. The T of the rules is the highest level of the chunk setting; a
    negative sink needs its c0.
    """

    def __init__(self, levels, chunk_sizes, sink=3, previous=1):
        self.levels = list(levels)
        self.top = len(chunk_sizes) - 1  # T
        self.previous = previous
        self.sink = sink_count(self.levels, chunk_sizes[0], sink)
        self.has_gists = any(level != RAW for level in self.levels)
        # chunk_of[i][t] = chunk_i(t): level-i gists strictly before t
        self.chunk_of = [counts_before(self.levels, i) for i in range(self.top + 1)]
        self.last_above = [last_index_above(self.levels, i) for i in range(self.top + 1)]

    def visible(self, q, k):
        """May the token at index q see the one at index k?"""
        if k > q:
            return False  # all rules are under the causal rule
        if not self.has_gists:
            return True  # a sequence without any gist: the full causal mask
        return (
            self._is_highest_gist(k)
            or self._is_gist_of_open_section(q, k)
            or self._is_raw_neighbourhood(q, k)
            or self._is_closed_by(q, k)
            or self._is_of_previous_groups(q, k)
            or k < self.sink
        )

    def _is_highest_gist(self, k):
        return self.levels[k] == self.top

    def _is_gist_of_open_section(self, q, k):
        """k is a gist of level i < T, and no gist of a higher level lies in (k, q]."""
        i = self.levels[k]
        return 0 <= i < self.top and self.last_above[i][q] <= k

    def _is_raw_neighbourhood(self, q, k):
        """q is not of level >= 1, and chunk_0(q) - chunk_0(k) is in {0, ..., P} (any k)."""
        return self.levels[q] < 1 and 0 <= self._distance(0, q, k) <= self.previous

    def _is_closed_by(self, q, k):
        """q is a level-i gist (i >= 1), k is a level-(i-1) gist, chunk_i(q) = chunk_i(k)."""
        i = self.levels[q]
        return i >= 1 and self.levels[k] == i - 1 and self._distance(i, q, k) == 0

    def _is_of_previous_groups(self, q, k):
        """P > 0: for each i >= 1: q is of level <= i (raw counts as below 0), k is a level-(i-1)
        gist, and chunk_i(q) - chunk_i(k) is in {1, ..., P}."""
        for i in range(1, self.top + 1):
            if self.levels[q] <= i and self.levels[k] == i - 1:
                if 1 <= self._distance(i, q, k) <= self.previous:
                    return True
        return False

    def _distance(self, i, q, k):
        return self.chunk_of[i][q] - self.chunk_of[i][k]

    def dense(self):
        """[n][n] of bool, rows are queries. For tests alone."""
        n = len(self.levels)
        return [[self.visible(q, k) for k in range(n)] for q in range(n)]


def sink_count(levels, c0, sink):
    """Section 4: a sink is an index below `sink`, whatever stands there. Negative: everything
    before (first level-0 gist - c0) is a sink."""
    if sink >= 0:
        return sink
    if 0 not in levels:
        return 0
    return max(0, levels.index(0) - c0)


def counts_before(levels, i):
    """[t]: gists of level i strictly before t (a gist belongs to the chunk it closes)."""
    counts, seen = [], 0
    for level in levels:
        counts.append(seen)
        seen += level == i
    return counts


def last_index_above(levels, i):
    """[q]: the last index <= q that holds a gist of a level above i, or -1."""
    last, found = [], -1
    for index, level in enumerate(levels):
        if level > i:
            found = index
        last.append(found)
    return last
