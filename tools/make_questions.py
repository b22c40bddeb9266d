"""Question-answer rows with documents, for `ssa data build --kind qa`, from text of tools/extract_sources.py.

    tools/make_questions.py --out questions --wikipedia text/wikivisual.train.txt --exclude-titles-from ... \
        [--factbook CLONE] [--hotpotqa hotpotqa_train300.jsonl.xz] [--hipporag CLONE] [--quac CLONE] [--pubmedqa CLONE]

Written are OUT/alone.jsonl, the paragraph that answers and nothing else; OUT/few.jsonl, up to about 2,000 tokens; and
OUT/many.jsonl, up to about 8,000. A row is {"documents", "question", "answer", "gold", "kind"}: the answer stands in
documents[gold[0]], and for rows made here in no other one. Rows are a function of the seed and the text. Other
paragraphs are of the same article or of others; rows whose articles stand together draw the latter from one pool of
80 paragraphs, so that the files compress well. Rows made here name their "article".
"""

import argparse
import json
import random
import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

from extract_sources import Clone, UnseenTitles, read_titles
from questions.clauses import LEADING_PREPOSITIONS, parse
from questions.factbook import read_countries
from questions.forms import Asker
from questions.lexicon import SYNONYMS, Lexicon
from questions.openings import ask_opening, ask_phrases
from questions.other_rows import read_hipporag, read_hotpot, read_pubmed, read_quac, titled
from questions.text import read_article, split_sentences

COMMITS = {"factbook": "8662a8b17a784841ab4528631b04090eb2f183eb",
           "hipporag": "3d95d255a8db0c1699b853cfb4fbe5056708162d",
           "pubmedqa": "1cbae8e9"}  # fmt: skip
QUAC_BLOB = "5fe2e11ea7ea6a3ebc8e2006f7edd57d86b7b195"
BYTES_PER_TOKEN = 4.3
POOL_ARTICLES, POOL_PARAGRAPHS = 48, 80  # articles whose rows take their other paragraphs from one pool, and its size
SHARES = {  # of each kind of question, relative to the others; kinds that are rarer than that are used up
    "time": 14, "where": 7, "which": 8, "how many": 6, "how much": 5, "how long": 3, "agent": 10, "subject": 14,
    "named": 5, "object": 12, "complement": 10, "why": 4, "how": 3, "born": 1.5, "died": 1, "nationality": 1.5,
    "profession": 1.5, "who is": 2, "what is": 4, "where is": 2.5, "apposition": 2, "acronym": 3, "means": 2,
}  # fmt: skip
DANGLING = re.compile(
    r"\b(?:he|she|they|them|him|these|those|such|former|latter|it|this|we|you|I|us|here|my|our|however|therefore|"
    r"thus)\b|\b(?:was|is|are|were) \?|"
    r"\b(?:the|a|an|and|or|that|which|who) *\?|[\[\]{}=]| ,|\b(\w+) \1\b"
)
PREPOSITION_PAIRS = re.compile(r"\b(?:in|at|of|on|by|from|with|for|as) (?:in|at|of|on|by|with|for|as|to|and)\b")


# -- questions ---------------------------------------------------------------------------------------------------------


def polish(question, rng):
    """A question's blanks and capital; now and then another word for the same, or small letters, as people type."""
    question = re.sub(r"\s+", " ", question).strip(" ,.;?")
    question = re.sub(
        r" (?:even|only|primarily|mainly|also|especially|particularly|again|partly|however)$", "", question
    )
    if rng.random() < 0.3:
        words = question.split(" ")
        places = [i for i, word in enumerate(words) if word in SYNONYMS]
        if places:
            place = rng.choice(places)
            words[place] = rng.choice(SYNONYMS[words[place]])
            question = " ".join(words)
    return question[0].upper() + question[1:] + "?"


def normalise(text):
    return re.sub(r"\b(?:the|a|an)\b|[^\w]+", " ", text.lower()).split()


def is_good(question, answer, paragraph):
    """Whether a question can be asked so, and the paragraph holds the answer as it stands."""
    n_words, n_answer = len(question.split()), len(answer.split())
    if not 4 <= n_words <= 20 or not 1 <= n_answer <= 9 or len(answer) > 70 or not re.search(r"\w", answer):
        return False
    if (
        DANGLING.search(question)
        or PREPOSITION_PAIRS.search(question)
        or question.count('"') % 2
        or answer.count('"') % 2
    ):
        return False
    if re.fullmatch(
        r"(?:\W*\b(?:he|she|it|they|him|her|them|this|that|these|those|one|other|others|part|not)\b\W*)+",
        answer.lower(),
    ):
        return False
    if answer.split()[0].lower() in LEADING_PREPOSITIONS | {"following", "across", "through"} and not answer.startswith(
        "by "
    ):
        return False
    if re.match(r"(?:his|her|its|their|my|our|this|these|those|such|that|more|also|not|and|or)\b", answer.lower()):
        return False
    if set(normalise(answer)) <= set(normalise(question)) or not normalise(answer):
        return False
    return re.search(r"(?<!\w)" + re.escape(answer) + r"(?!\w)", paragraph) is not None


def ask_article(article, asker, rng):
    """(kind, question, answer, number of the paragraph) of an article."""
    for number, paragraph in enumerate(article.paragraphs):
        about_title = number == 0
        for place, sentence in enumerate(split_sentences(paragraph)):
            found = []
            if place == 0 and number == 0:
                found += ask_opening(article, asker.lexicon, rng)
            found += ask_phrases(sentence, asker.lexicon, rng)
            clause = parse(sentence, article, about_title and place < 3, asker.lexicon)
            if clause:
                found += asker.ask(clause, article)
            for kind, question, answer in found:
                question, answer = polish(question, rng), answer.strip(' ,.;"')
                if is_good(question, answer, paragraph):
                    yield kind, question, answer, number


def is_anchored(question, article):
    """Whether the question says what it is about, so that it can be asked over documents of all sorts."""
    if article.name.lower() in question.lower():
        return True
    return len(re.findall(r"(?<!^)\b[A-Z][\w'-]{2,}|\b\d{4}\b", question[1:])) >= 2


def choose(candidates, n, rng):
    """`n` candidates by SHARES of their kinds, at most two of a paragraph and one of an answer in an article."""
    by_kind = defaultdict(list)
    for candidate in candidates:
        by_kind[candidate["kind"]].append(candidate)
    for group in by_kind.values():
        rng.shuffle(group)
    chosen, per_paragraph, seen = [], Counter(), set()
    total = sum(SHARES[kind] for kind in by_kind)
    quota = {kind: n * SHARES[kind] / total for kind in by_kind}
    for extra in (1.0, 1.25, 1.6, 2.5, 5.0, 50.0):
        taken = Counter(row["kind"] for row in chosen)
        for kind, group in by_kind.items():
            while group and taken[kind] < quota[kind] * extra and len(chosen) < n:
                row = group.pop()
                keys = {(row["article"], row["answer"].lower()), row["question"]}
                place = (row["article"], row["paragraph"])
                if per_paragraph[place] < 2 and not keys & seen:
                    seen |= keys
                    per_paragraph[place] += 1
                    taken[kind] += 1
                    chosen.append(row)
    return chosen


# -- documents around them ---------------------------------------------------------------------------------------------


def lay_documents(row, size, articles, pool, rng):
    """The gold paragraph among others, of about `size` characters in all (0: alone), at a random place; none of the
    others holds the answer. Half of the rows say the articles' titles."""
    article = articles[row["article"]]
    shows_titles = rng.random() < 0.5

    def show(title, text):
        return titled(title, text) if shows_titles else text

    gold = show(article.title, article.paragraphs[row["paragraph"]])
    others, n = [], len(gold)
    near = [(row["article"], i) for i in range(len(article.paragraphs)) if i != row["paragraph"]]
    rng.shuffle(near)
    far = rng.sample(pool, len(pool))
    # Neighbours know most of the question's words; a third of what is there is enough.
    places = near[: rng.randint(0, 1 + size // 2500)] + [place for place in far if place[0] != row["article"]]
    answer = re.compile(r"(?<!\w)" + re.escape(row["answer"].lower()) + r"(?!\w)")
    for number, paragraph in places:
        text = show(articles[number].title, articles[number].paragraphs[paragraph])
        if n + len(text) > size:
            break
        if not answer.search(text.lower()):
            others.append(text)
            n += len(text)
    rng.shuffle(others)
    place = rng.randint(0, len(others))
    return {"documents": [*others[:place], gold, *others[place:]], "question": row["question"], "answer": row["answer"],
            "gold": [place], "kind": row["kind"], "article": article.title}  # fmt: skip


class Files:
    """The three files of rows, by the length of a row's documents."""

    LIMITS = {"alone": 0, "few": 2000, "many": 8000}  # tokens

    def __init__(self, out):
        out.mkdir(parents=True, exist_ok=True)
        self.files = {name: open(out / f"{name}.jsonl", "w", encoding="utf-8") for name in self.LIMITS}
        self.counts, self.kinds, self.bytes = Counter(), Counter(), Counter()

    def add(self, row):
        n_tokens = sum(map(len, row["documents"])) / BYTES_PER_TOKEN
        name = "alone" if len(row["documents"]) == 1 else "few" if n_tokens <= self.LIMITS["few"] else "many"
        line = json.dumps(row, ensure_ascii=False) + "\n"
        self.files[name].write(line)
        self.counts[name] += 1
        self.bytes[name] += len(line.encode())
        self.kinds[row["kind"]] += 1

    def finish(self):
        for name, file in self.files.items():
            file.close()
            print(f"{file.name}: {self.counts[name]:,} rows, {self.bytes[name] / 1e6:.1f} MB")
        print(", ".join(f"{kind} {count:,}" for kind, count in self.kinds.most_common()))


def draw_size(rng):
    """Characters of a row's documents: 30% the gold paragraph alone, 40% to 2,000 tokens, the rest to 8,000."""
    draw = rng.random()
    if draw < 0.30:
        return 0
    low, high = (400, 2000) if draw < 0.70 else (2000, 3900) if draw < 0.88 else (3900, 7600)
    return int(rng.uniform(low, high) * BYTES_PER_TOKEN)


def add_wikipedia(arguments, unseen, files, rng):
    texts = Path(arguments.wikipedia).read_text(encoding="utf-8").split("\0")
    rng.shuffle(texts)
    articles = []
    for text in texts:
        article = read_article(text, arguments.paragraphs)
        if article and article.title not in unseen:
            articles.append(article)
        if len(articles) == arguments.articles:
            break
    lexicon = Lexicon(articles)
    asker = Asker(lexicon, rng)
    candidates = []
    for number, article in enumerate(articles):
        for kind, question, answer, paragraph in ask_article(article, asker, rng):
            candidates.append({"kind": kind, "question": question, "answer": answer, "article": number,
                               "paragraph": paragraph})  # fmt: skip
    print(f"{len(articles):,} articles, {len(candidates):,} questions to choose from:",
          ", ".join(f"{k} {n:,}" for k, n in Counter(c["kind"] for c in candidates).most_common()))  # fmt: skip
    rows = choose(candidates, arguments.rows, rng)
    rows.sort(key=lambda row: row["article"])  # pools are of articles that stand together
    for start in range(0, len(articles), POOL_ARTICLES):
        numbers = range(start, min(start + POOL_ARTICLES, len(articles)))
        pool = [(n, i) for n in numbers for i in range(len(articles[n].paragraphs))]
        pool = rng.sample(pool, min(len(pool), POOL_PARAGRAPHS))
        for row in (row for row in rows if row["article"] in numbers):
            size = draw_size(rng)
            if size and not is_anchored(row["question"], articles[row["article"]]):
                size = 0
            files.add(lay_documents(row, size, articles, pool, rng))


def add_factbook(place, files, rng):
    """Countries' fields: a section alone, or among sections of the same and other countries."""
    countries = list(read_countries(Clone(place, COMMITS["factbook"]), rng))
    for number, (documents, questions) in enumerate(countries):
        for question, answer, gold in questions:
            others = [text for i, text in enumerate(documents) if i != gold and answer not in text]
            beside = countries[(number + rng.randint(1, 8)) % len(countries)][0]
            others += [text for text in beside if answer not in text]
            rng.shuffle(others)
            others = others[: rng.choice([0, 0, 0, 1, 3, 6, 10])]
            at = rng.randint(0, len(others))
            files.add({"documents": [*others[:at], documents[gold], *others[at:]], "question": question,
                       "answer": answer, "gold": [at], "kind": "factbook"})  # fmt: skip


def add_published(arguments, unseen, files):
    if arguments.hotpotqa:
        for row in read_hotpot(arguments.hotpotqa, unseen):
            files.add(row)
    if arguments.hipporag:
        for row in read_hipporag(Clone(arguments.hipporag, COMMITS["hipporag"]), unseen):
            files.add(row)
    if arguments.quac:
        blob = Clone(arguments.quac, "HEAD").git("cat-file", "blob", QUAC_BLOB).stdout.decode()
        for row in read_quac(blob, unseen):
            files.add(row)
    if arguments.pubmedqa:
        clone = Clone(arguments.pubmedqa, COMMITS["pubmedqa"])
        for _, text in clone.texts(["data/ori_pqal.json"]):
            for row in read_pubmed(text):
                files.add(row)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows")
    parser.add_argument("--wikipedia", required=True, help="wikivisual.train.txt of extract_sources.py")
    parser.add_argument("--exclude-titles-from", nargs="+", required=True, metavar="FILE", help="evaluation files")
    parser.add_argument("--rows", type=int, default=44_000, help="questions from Wikipedia (default: 44000)")
    parser.add_argument("--articles", type=int, default=22_000, help="most articles to ask about (default: 22000)")
    parser.add_argument("--paragraphs", type=int, default=10, help="most paragraphs of an article (default: 10)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hotpotqa", metavar="FILE", help="hotpotqa_train300.jsonl.xz")
    for name in ("factbook", "hipporag", "quac", "pubmedqa"):
        parser.add_argument("--" + name, metavar="DIR[@REV]", help="git clone; see SOURCES.md of the data")
    arguments = parser.parse_args()
    unseen = UnseenTitles([title for path in arguments.exclude_titles_from for title in read_titles(path)])
    rng = random.Random(arguments.seed)
    files = Files(arguments.out)
    add_wikipedia(arguments, unseen, files, rng)
    if arguments.factbook:
        add_factbook(arguments.factbook, files, rng)
    add_published(arguments, unseen, files)
    files.finish()
    if not files.counts:
        sys.exit("no rows were made")


if __name__ == "__main__":
    main()
