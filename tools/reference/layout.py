"""Where gists go: the layout of section 2, the positions of section 3, and the chunk spans.

The plainest reading of the specification, written to be read beside it. Nothing here is fast.

Words used here: a *level* is -1 for a raw token and i for a gist of level i. `chunk_sizes` is
[c0], [c0, c1], [c0, c1, c2], ...: c0 in raw tokens, c1 in level-0 gists, c2 in level-1 gists.
All ranges are half-open.
"""

from dataclasses import dataclass, field

RAW = -1

# Section 2.2: exactly these characters open a word, and no other white space or sign does.
WORD_OPENERS = " \t\n\r" + ".,;:!?-\u2014()[]{}\"'"


def opens_a_word(token_text):
    """Section 2.2: is the place before this token (decoded alone) a word boundary?

    A part of a multi-byte character decodes to U+FFFD, which is not in the list.
    """
    return token_text == "" or token_text[0] in WORD_OPENERS


@dataclass
class Layout:
    """A sequence with its gists: prefix (gisted), then suffix (raw)."""

    chunk_sizes: list
    ids: list = field(default_factory=list)
    levels: list = field(default_factory=list)  # RAW, or the level of the gist
    prefix_end: int = 0  # the prefix is [0, prefix_end), the suffix everything behind it

    @property
    def n_levels(self):
        return len(self.chunk_sizes)

    @property
    def positions(self):
        """Section 3: raw tokens up to and including this one, minus 1."""
        positions, raw_tokens = [], 0
        for level in self.levels:
            raw_tokens += level == RAW
            positions.append(raw_tokens - 1)
        return positions

    @property
    def chunks(self):
        return chunk_spans(self.levels)

    def gists(self, level):
        """Indices into ids of the gists of one level, in order."""
        return [index for index, found in enumerate(self.levels) if found == level]


def chunk_spans(levels):
    """[[level, begin, end], ...], one entry per gist of any level in order of position.

    Level 0: from behind the previous level-0 gist and any higher gists after it (the first from 0,
    sinks included) to the gist's own index. Level i: from the first level-(i-1) gist that it closes
    to its own index. A gist that closes nothing has an empty span at its own index.
    """
    spans = []
    for own_index, level in enumerate(levels):
        if level == RAW:
            continue
        if level == 0:
            begin = own_index
            while begin > 0 and levels[begin - 1] == RAW:
                begin -= 1
        else:
            closed = gists_closed_by(levels, own_index)
            begin = closed[0] if closed else own_index
        spans.append([level, begin, own_index])
    return spans


def gists_closed_by(levels, own_index):
    """The gists of the level below that stand between this gist and the previous one of its level."""
    level = levels[own_index]
    closed = []
    for index in range(own_index - 1, -1, -1):
        if levels[index] == level:
            break
        if levels[index] == level - 1:
            closed.append(index)
    return closed[::-1]


def gist_places(n_tokens, c0, sink, boundary):
    """Section 2.1 to 2.3: the places of the level-0 gists of one piece.

    A place p means "in front of raw token p" (p = n_tokens: at the end). `boundary[p]` says whether
    raw token p opens a word; None means plain counting (2.5).
    """
    if n_tokens == 0:
        return []  # 2.3: an empty input gets none
    places = []
    place = sink + c0  # 2.1: counting starts behind the sinks
    while place < n_tokens:  # 2.2: "and this is not the end of the input"
        if boundary is not None:
            place += shift_to_word(place, n_tokens, c0, boundary)
        places.append(place)
        place += c0  # 2.2: the next chunk counts from where the gist really went
    places.append(n_tokens)  # 2.3: a gist always ends the input
    return places


def shift_to_word(place, n_tokens, c0, boundary):
    """Section 2.2: how many tokens further on than `place` the gist goes."""
    if boundary[place]:
        return 0
    for s in range(1, c0 // 2 + 1):
        if place + s >= n_tokens:  # "and before the end"
            break
        if boundary[place + s]:
            left = n_tokens - place
            return min(s, (left + 1) // 2)  # min(s, ceil(left / 2))
    return 0  # no boundary in reach: the original place


def lay_out(ids, chunk_sizes, sink, gist_ids, boundary=None):
    """Lay gists into one piece: (ids with gists, levels). Section 2.1 to 2.5."""
    n_levels = len(chunk_sizes)
    places = gist_places(len(ids), chunk_sizes[0], max(sink, 0), boundary)
    out_ids, out_levels = [], []

    def lay(level):
        out_ids.append(gist_id_of(level, gist_ids))
        out_levels.append(level)

    copied = 0
    laid_since_closed = [0] * n_levels  # [i]: level-i gists since the last level-(i+1) gist
    for place in places:
        for token in ids[copied:place]:
            out_ids.append(token)
            out_levels.append(RAW)
        copied = place
        is_end = place == len(ids)
        # 2.4: a level-i gist goes behind every c_i-th gist of the level below, and behind the end.
        for level in range(n_levels):
            if level > 0:
                group_is_full = laid_since_closed[level - 1] == chunk_sizes[level]
                if not (group_is_full or is_end):
                    break
                laid_since_closed[level - 1] = 0
            lay(level)
            laid_since_closed[level] += 1
    return out_ids, out_levels


def gist_id_of(level, gist_ids):
    """Section 1: three ids; levels above 2 reuse the third."""
    return gist_ids[min(level, 2)]


def is_bare_bos(number, pieces, bos_id):
    """Section 2, RAG: with an empty system text the first piece with any token is BOS alone. Without a
    next piece there is nothing to join, and it is an ordinary piece."""
    return (
        bos_id is not None
        and list(pieces[number]) == [bos_id]
        and not any(pieces[:number])
        and any(pieces[number + 1 :])
    )


def lay_out_pieces(pieces, suffix, chunk_sizes, sink, gist_ids, boundaries=None, bos_id=None):
    """Lay every piece alone, concatenate, and put the raw suffix behind: a Layout.

    `boundaries` holds one list of flags per piece, or is None for plain counting. Sinks are counted
    in the first piece only, even if that is empty or a bare BOS; every piece closes all levels and
    starts its own counts. A bare BOS gets no gist, so it falls to the first chunk of the next piece,
    which counts its own tokens alone.
    """
    check_chunk_sizes(chunk_sizes)
    layout = Layout(list(chunk_sizes))
    for number, piece in enumerate(pieces):
        if is_bare_bos(number, pieces, bos_id):
            ids, levels = list(piece), [RAW]
        else:
            ids, levels = lay_out(
                list(piece),
                chunk_sizes,
                sink if number == 0 else 0,
                gist_ids,
                None if boundaries is None else list(boundaries[number]),
            )
        layout.ids += ids
        layout.levels += levels
    layout.prefix_end = len(layout.ids)
    layout.ids += list(suffix)
    layout.levels += [RAW] * len(suffix)
    return layout


def parse_laid(ids, chunk_sizes, gist_ids):
    """Ids that already hold their gists (`--laid`): a Layout.

    Levels 2 and above share an id, so the level comes from the layout: levels close one directly
    behind the other, so the m-th `<MGist>` in a row (from 0) is of level 2 + m.
    """
    check_chunk_sizes(chunk_sizes)
    layout = Layout(list(chunk_sizes), ids=list(ids))
    for index, token in enumerate(ids):
        level = RAW
        if token in gist_ids:
            level = list(gist_ids).index(token)
            below = layout.levels[index - 1] if index > 0 else RAW
            if level == 2 and below >= 2:
                level = below + 1
            if level > 0 and below != level - 1:
                raise ValueError(
                    f"gist of level {level} at {index} is not behind one of {level - 1}"
                )
            if level >= len(chunk_sizes):
                raise ValueError(f"gist of level {level} at {index}, levels: {len(chunk_sizes)}")
        layout.levels.append(level)
    # Section 1: the prefix ends at the last gist of the highest level.
    highest = layout.gists(len(chunk_sizes) - 1)
    layout.prefix_end = highest[-1] + 1 if highest else 0
    if any(level != RAW for level in layout.levels[layout.prefix_end :]):
        raise ValueError("gists behind the last gist of the highest level are never closed")
    return layout


def check_chunk_sizes(chunk_sizes):
    if not chunk_sizes or any(size < 1 for size in chunk_sizes):
        raise ValueError(f"chunk sizes must be positive, got {chunk_sizes}")
