#!/usr/bin/env python3
"""Writes src/tokenizer/unicode_tables.cpp and tests/golden/tokenizer/unicode_classes.json.

The Hugging Face library carries three versions of Unicode: its regular expressions (Oniguruma), its digits (Rust) and
its normal forms. PCRE2 and utf8proc each carry another. What differs is found by asking the library about every
character, and goes into tables that our tokenizer adds to the system's libraries.

    pip install tokenizers==0.23.3 unicodedata2 && python tools/make_unicode_tables.py
"""

import json
import pathlib
import unicodedata as unicode14  # Python 3.11

import tokenizers
import unicodedata2 as unicode_latest
from tokenizers import Regex, normalizers, pre_tokenizers

ROOT = pathlib.Path(__file__).resolve().parent.parent
CHARACTERS = [c for c in range(1, 0x110000) if not 0xD800 <= c < 0xE000]
CATEGORIES = "Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So Cf".split()
WIDTH = 100


def ranges(characters):
    out = []
    for c in sorted(characters):
        if out and out[-1][1] == c - 1:
            out[-1][1] = c
        else:
            out.append([c, c])
    return out


def matched_by(split):
    """The characters that a pre-tokenizer which removes its matches takes away."""
    matched = set()
    for start in range(0, len(CHARACTERS), 20000):
        chunk = CHARACTERS[start : start + 20000]
        kept = {
            ord(c) for text, _ in split.pre_tokenize_str("".join(map(chr, chunk))) for c in text
        }
        matched.update(c for c in chunk if c not in kept)
    return matched


def matched_by_regex(pattern):
    return matched_by(pre_tokenizers.Split(Regex(pattern), "removed"))


def matched_by_digits():
    digits = pre_tokenizers.Digits(individual_digits=True)
    matched = set()
    for start in range(0, len(CHARACTERS), 5000):
        text = "".join("aa" + chr(c) + "aa" for c in CHARACTERS[start : start + 5000])
        matched.update(ord(t) for t, _ in digits.pre_tokenize_str(text) if len(t) == 1 and t != "a")
    return matched


def unknown_to_normalizer():
    """What normal forms act upon in the latest Unicode, and the library leaves alone."""
    nfc, nfd, nfkd = (getattr(normalizers, name)().normalize_str for name in ("NFC", "NFD", "NFKD"))
    out = {0x11A7}  # known to both, but utf8proc 2.8 loses it: it composes U+AC00 U+11A7 to U+AC00
    for c in CHARACTERS:
        char = chr(c)
        combining_class = unicode_latest.combining(char)
        # A mark that is known changes places with one of a higher class before it, or of a lower one behind it.
        disordered = "a\u0345" + char if combining_class < 240 else "a" + char + "\u0334"
        if combining_class and nfd(disordered) == disordered:
            out.add(c)
        if unicode_latest.normalize("NFKD", char) != nfkd(char):
            out.add(c)
        parts = unicode_latest.normalize("NFD", char)
        pair = unicode_latest.decomposition(char)
        if (
            pair
            and not pair.startswith("<")
            and unicode_latest.normalize("NFC", parts) != nfc(parts)
        ):
            out.update([c], (int(part, 16) for part in pair.split()))
    return {c for c in out if c == 0x11A7 or unicode14.ucd_3_2_0.category(chr(c)) == "Cn"}


def table(name, rows):
    """A C++ array, as many rows a line as fit."""
    lines, line = [], "   "
    for row in rows:
        if len(line) + len(row) + 2 > WIDTH:
            lines.append(line)
            line = "   "
        line += f" {row},"
    return "\n".join([f"{name} = {{", *lines, line, "};"])


def main():
    assert unicode14.unidata_version == "14.0.0", "PCRE2 10.42's version: run this with Python 3.11"
    matched = {name: matched_by_regex(rf"\p{{{name}}}") for name in CATEGORIES}
    categories = []
    for name, characters in matched.items():
        new = {c for c in characters if unicode14.category(chr(c)) != name}
        categories += [(first, last, name) for first, last in ranges(new)]
    numeric = matched_by_digits() - matched["Nd"] - matched["Nl"] - matched["No"]
    source = f"""// Made by tools/make_unicode_tables.py from tokenizers {tokenizers.__version__}; not to be edited.
#include "tokenizer/unicode_tables.h"

namespace ssa {{
namespace {{
// clang-format off

{table("constexpr CategoryRange kNewCategories[]",
       [f'{{0x{a:X}, 0x{b:X}, "{name}"}}' for a, b, name in sorted(categories)])}

{table("constexpr CharacterRange kNewNumerals[]", [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(numeric)])}

{table("constexpr CharacterRange kInertInNormalForms[]",
       [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(unknown_to_normalizer())])}

}}  // namespace

std::span<const CategoryRange> new_categories() {{ return kNewCategories; }}
std::span<const CharacterRange> new_numerals() {{ return kNewNumerals; }}
std::span<const CharacterRange> inert_in_normal_forms() {{ return kInertInNormalForms; }}
// clang-format on

}}  // namespace ssa
"""
    (ROOT / "src/tokenizer/unicode_tables.cpp").write_text(source)
    letters = set().union(*(matched[n] for n in ("Lu", "Ll", "Lt", "Lm", "Lo")))
    numbers = set().union(*(matched[n] for n in ("Nd", "Nl", "No")))
    classes = {
        "tokenizers": tokenizers.__version__,
        "letters": ranges(letters),
        "numbers": ranges(numbers),
        "marks": ranges(matched["Mn"] | matched["Mc"] | matched["Me"]),
        "spaces": ranges(matched_by_regex(r"\s")),
        "word": ranges(matched_by_regex(r"\w")),
        "digits": ranges(numeric | numbers),
    }
    fixture = json.dumps(classes, separators=(",", ":")) + "\n"
    (ROOT / "tests/golden/tokenizer/unicode_classes.json").write_text(fixture)


if __name__ == "__main__":
    main()
