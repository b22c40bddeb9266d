"""Training text from git clones: files of documents with a NUL byte between them, for `ssa data build`.

    tools/extract_sources.py --out text --wikivisual ../wikiVisual --books ../classic-books-markdown \
        --exclude-titles-from wikitext2_test.txt.xz xquad_en.json nq_open_oracle_half.jsonl.xz

Each source is read from the git history at the commit named in SOURCES, so a bare clone serves; DIR@REV reads another
one. Written are NAME.train.txt, and for Wikipedia and the books NAME.heldout.txt, which training must never see:
Wikipedia's AD/wiki_80 to 99, and books whose md5 of AUTHOR/TITLE.md begins below 08. Articles whose title is that of a
document in an evaluation file (--exclude-titles-from) are left out of the training text.
"""

import argparse
import contextlib
import hashlib
import html
import json
import lzma
import os
import re
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

MIN_ARTICLE_BYTES = 1000
MIN_PAGE_BYTES = 500  # shorter pages of other sources are lists of links
FIRST_YEAR_LEFT_OUT = 1930  # books from then on may not be in the public domain
MAX_CPP_BYTES = 10_000_000


# -- git ---------------------------------------------------------------------------------------------------------------


class Clone:
    """Files of one commit of a clone, read through a single `git cat-file` process."""

    def __init__(self, place, commit):
        self.folder, _, revision = place.partition("@")
        self.commit = revision or commit
        self.n_missing = 0
        if self.git("cat-file", "-e", self.commit + "^{commit}", check=False).returncode != 0:
            sys.exit(f"{self.folder}: no git clone with commit {self.commit}; DIR@REV names another one")

    def git(self, *arguments, check=True):
        command = ["git", "-C", self.folder, *arguments]
        return subprocess.run(command, check=check, capture_output=True)

    def paths(self, pattern):
        """Paths that match a regular expression, sorted."""
        names = self.git("ls-tree", "-r", "-z", "--name-only", self.commit).stdout.decode().split("\0")
        return sorted(name for name in names if re.fullmatch(pattern, name))

    def texts(self, paths):
        """(path, text) of each path; files that a partial clone lacks are counted and passed over."""
        command = ["git", "-C", self.folder, "cat-file", "--batch"]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            for path in paths:
                process.stdin.write(f"{self.commit}:{path}\n".encode())
                process.stdin.flush()
                header = process.stdout.readline().split()
                if header[-1] == b"missing":
                    self.n_missing += 1
                    continue
                text = process.stdout.read(int(header[2]))
                process.stdout.read(1)
                yield path, text.decode("utf-8", "replace")
            process.stdin.close()


# -- titles that must stay unseen --------------------------------------------------------------------------------------


def words_of(title):
    """A title's words as they compare: without case, signs and accents' forms; <unk> stays."""
    title = re.sub(r" @(.)@ ", r"\1", title.replace("_", " "))
    return re.findall(r"<unk>|\w+", unicodedata.normalize("NFKC", html.unescape(title)).casefold())


def find_titles(value):
    """Everything that stands under a key "title" anywhere in JSON: a string, or a list of them."""
    if isinstance(value, list):
        for item in value:
            yield from find_titles(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key == "title":
                yield from [item] if isinstance(item, str) else item
            else:
                yield from find_titles(item)


def read_titles(path):
    """Titles in an evaluation file: JSON, JSON lines, or WikiText with ` = Title = `; .xz is unpacked."""
    path = Path(path)
    data = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    text = data.decode()
    kind = Path(path.stem).suffix if path.suffix == ".xz" else path.suffix
    if kind == ".json":
        titles = list(find_titles(json.loads(text)))
    elif kind == ".jsonl":
        titles = [title for line in text.splitlines() if line.strip() for title in find_titles(json.loads(line))]
    else:
        titles = re.findall(r"^ = ([^=\n]+) = *$", text, re.MULTILINE)
    if not titles:
        sys.exit(f"{path}: no titles found")
    return titles


class UnseenTitles:
    """Titles of evaluation documents. In WikiText a rare word is <unk>, which stands here for one or two words; a title
    of nothing else tells nothing and is counted."""

    def __init__(self, titles):
        self.exact, patterns, self.n_unknown = set(), set(), 0
        for words in map(words_of, titles):
            if "<unk>" not in words:
                self.exact.add(" ".join(words))
            elif set(words) == {"<unk>"}:
                self.n_unknown += 1
            else:
                patterns.add(" ".join(r"\w+(?: \w+)?" if word == "<unk>" else re.escape(word) for word in words))
        self.pattern = re.compile("|".join(sorted(patterns)) or r"(?!)")

    def __contains__(self, title):
        words = " ".join(words_of(title))
        return words in self.exact or self.pattern.fullmatch(words) is not None


# -- sources: each yields (set, text), set "train" or "heldout", or (why, None) for what is left out -------------------


def clean_article(text):
    text = re.sub(r"formula_\d+", "", text)
    text = re.sub(r"<br\b(?:[^<>\n]{0,60}>)?", " ", text)  # often cut off: no more than what is closed
    return html.unescape(text).strip()


def read_wikivisual(clone, unseen):
    for path, text in clone.texts(clone.paths(r"text/A[ABCD]/wiki_\d\d")):
        heldout = re.fullmatch(r"text/AD/wiki_[89]\d", path) is not None
        for title, body in re.findall(r'<doc [^>]*?title="(.*?)">\n(.*?)\n?</doc>', text, re.DOTALL):
            article = clean_article(body)
            if len(article.encode()) < MIN_ARTICLE_BYTES:
                yield "too short", None
            elif heldout:
                yield "heldout", article
            elif title in unseen:
                yield "title in an evaluation file", None
            else:
                yield "train", article


def read_books(clone, unseen):
    for path, text in clone.texts(clone.paths(r"[^/]+/[^/]+\.md")):
        header, rule, body = re.split(r"^(-{5,})[^\n]*$", text, maxsplit=1, flags=re.MULTILINE) \
            if re.search(r"^-{5,}", text, re.MULTILINE) else ("", "", text)
        years = re.search(r"year\D*(\d{4})", header, re.IGNORECASE)
        if not rule:
            yield "no header", None
        elif not years or int(years[1]) >= FIRST_YEAR_LEFT_OUT:
            yield f"year {FIRST_YEAR_LEFT_OUT} and later, or unknown", None
        elif hashlib.md5(path.encode()).hexdigest() < "08":
            yield "heldout", body.strip()
        else:
            yield "train", body.strip()


def read_wikinews(clone, unseen):
    for _, text in clone.texts(clone.paths(r"text/AA/wiki_(?:[0-3]\d|40)")):
        for line in text.splitlines():
            article = clean_article(json.loads(line)["text"])
            yield ("train", article) if len(article.encode()) >= MIN_PAGE_BYTES else ("too short", None)


def strip_markdown(text, keep_code):
    """Prose of a markdown page: no front matter, links, images, tags or templates."""
    text = re.sub(r"\A\s*---\n.*?\n---\s*?\n", "", text, flags=re.DOTALL)
    if not keep_code:
        text = re.sub(r"^[ >]*(```|~~~).*?^[ >]*\1[^\n]*$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"\{\{[<%].*?[%>]\}\}|\{\{.*?\}\}|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r"!\[[^\]]*\]\([^)]*\)", "", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"^:::.*$|^> ?\[!\w+\]\s*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"</?[a-zA-Z][^<>]*>|\*\*", "", text)
    text = re.sub(r"[ \t]+$", "", html.unescape(text), flags=re.MULTILINE)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def read_markdown(pattern, keep_code, max_bytes=None):
    def read(clone, unseen):
        n_bytes = 0
        for _, text in clone.texts(clone.paths(pattern)):
            page = strip_markdown(text, keep_code)
            size = len(page.encode())
            if size < MIN_PAGE_BYTES:
                yield "too short", None
            elif max_bytes and n_bytes + size > max_bytes:
                yield f"past {max_bytes} bytes", None
            else:
                n_bytes += size
                yield "train", page

    return read


def describe_facts(value, names=()):
    """The factbook's tree as lines `Field, part: text`."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from describe_facts(item, names if name == "text" else (*names, name.strip()))
    elif isinstance(value, str):
        text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^<>]*>", " ", value))).strip()
        yield ", ".join(names) + ": " + text


def read_factbook(clone, unseen):
    for path, text in clone.texts(clone.paths(r"(?!meta/)[\w-]+/\w+\.json")):
        country = json.loads(text)
        sections = ["\n".join([name, *describe_facts(facts)]) for name, facts in country.items()]
        page = "\n\n".join(sections)
        yield ("train", page) if len(page.encode()) >= MIN_PAGE_BYTES else ("too short", None)


# name of the flag: (clone, commit, reader)
SOURCES = {
    "wikivisual": ("jason-feng/wikiVisual", "1c0fac92f29f17c1603bfffbe864e0dfdff66897", read_wikivisual),
    "books": ("mlschmitt/classic-books-markdown", "944882722e9a96fa6cf2739dc2ea757e101f412f", read_books),
    "wikinews": ("jshepp27/countaBot", "eac9439eff525f2f4c753983fe2a2973e22e2e7f", read_wikinews),
    "digitalgov": ("GSA/digitalgov.gov", "4979583206d90ff1707b097454a9b169ca9e95e4",
                   read_markdown(r"content/.*\.md", keep_code=True)),
    "cpp-docs": ("MicrosoftDocs/cpp-docs", "a2e592a8fc391b6aff8d1323f5b58696abdc5d57",
                 read_markdown(r"docs/.*\.md", keep_code=False, max_bytes=MAX_CPP_BYTES)),
    "factbook": ("factbook/factbook.json", "8662a8b17a784841ab4528631b04090eb2f183eb", read_factbook),
}  # fmt: skip


# -- output ------------------------------------------------------------------------------------------------------------


class DocumentFile:
    """Documents with NUL bytes between them; the file is there under its name once it is whole."""

    def __init__(self, path):
        self.path, self.partial = path, path.with_name(path.name + ".partial")
        self.file = open(self.partial, "wb")
        self.n_documents = self.n_bytes = 0

    def add(self, text):
        data = text.replace("\0", " ").encode()
        self.file.write(data + b"\0")
        self.n_documents += 1
        self.n_bytes += len(data)

    def finish(self):
        self.file.close()
        os.replace(self.partial, self.path)
        print(f"{self.path}: {self.n_documents:,} documents, {self.n_bytes / 1e6:,.1f} MB")

    def discard(self):
        self.file.close()
        with contextlib.suppress(FileNotFoundError):
            self.partial.unlink()


def extract(name, place, unseen, out):
    _, commit, read = SOURCES[name]
    clone = Clone(place, commit)
    files, left_out = {}, Counter()
    try:
        for kind, text in read(clone, unseen):
            if text is None:
                left_out[kind] += 1
                continue
            if kind not in files:
                files[kind] = DocumentFile(out / f"{name}.{kind}.txt")
            files[kind].add(text)
        if not files:
            sys.exit(f"{place}: no documents found")
        for file in files.values():
            file.finish()
    finally:
        for file in files.values():
            file.discard()
    left_out["not in a partial clone"] = clone.n_missing
    for reason, count in sorted((+left_out).items()):
        print(f"  left out: {count:,} ({reason})")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the text files")
    for name, (repository, _, _) in SOURCES.items():
        parser.add_argument("--" + name, metavar="DIR[@REV]", help=f"clone of {repository}")
    parser.add_argument("--exclude-titles-from", nargs="+", default=[], metavar="FILE",
                        help="evaluation files: .json, .jsonl or WikiText .txt, also with .xz")  # fmt: skip
    arguments = vars(parser.parse_args())
    places = {name: arguments[name.replace("-", "_")] for name in SOURCES}
    if not any(places.values()):
        parser.error("name at least one clone")
    if places["wikivisual"] and not arguments["exclude_titles_from"]:
        parser.error("--wikivisual needs --exclude-titles-from: evaluation files are made of Wikipedia articles too")
    unseen = UnseenTitles([title for path in arguments["exclude_titles_from"] for title in read_titles(path)])
    if arguments["exclude_titles_from"]:
        print(f"{len(unseen.exact):,} titles are left out; {unseen.n_unknown} titles of unknown words could not be")
    arguments["out"].mkdir(parents=True, exist_ok=True)
    for name, place in places.items():
        if place:
            extract(name, place, unseen, arguments["out"])


if __name__ == "__main__":
    main()
