"""Articles as paragraphs of SQuAD's length, and paragraphs as sentences."""

import re
from dataclasses import dataclass, field

MIN_WORDS, MAX_WORDS = 70, 200
ABBREVIATIONS = {
    "Mr", "Mrs", "Ms", "Dr", "St", "Sr", "Jr", "No", "Nos", "Gen", "Col", "Capt", "Lt", "Sgt", "Prof", "Rev", "Hon",
    "Mt", "Ft", "vs", "c", "ca", "cf", "e.g", "i.e", "etc", "al", "Inc", "Ltd", "Co", "Corp", "Bros", "vol", "op", "fl",
}  # fmt: skip


@dataclass
class Article:
    title: str
    paragraphs: list[str]  # of MIN_WORDS to MAX_WORDS words, the opening one first
    opening: str = ""  # the first sentence
    is_person: bool = False
    category: str = ""  # head noun of the opening's "X is a ... NOUN"
    name: str = field(init=False)  # the title without what tells it from others of that name

    def __post_init__(self):
        self.name = re.sub(r"\s*\([^)]*\)", "", self.title).strip()


def tidy(text):
    """Wikipedia's plain text without what lost templates left behind."""
    text = re.sub(r"\[\[|\]\]|''+", "", text.replace("\u200e", "").replace("\xa0", " "))
    text = re.sub(r"\(\s*(?:[;,:\]]|or\b|\s)+\s*", "(", text)  # sounds that were in front of the dates
    text = re.sub(r"\(\s*\)", "", text)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ([,.;)])", r"\1", text)
    return re.sub(r"([(]) ", r"\1", text).strip()


def split_sentences(paragraph):
    """Sentences in order; what follows an abbreviation or an initial is no new one."""
    sentences, start = [], 0
    for match in re.finditer(r"[.!?][\"')]*\s+(?=[\"'(]?[A-Z0-9])", paragraph):
        last = re.search(r"([\w.]+)$", paragraph[start : match.start()])
        word = last[1] if last else ""
        if paragraph[match.start()] == "." and (word in ABBREVIATIONS or re.fullmatch(r"(?:\w\.)*[A-Z]", word)):
            continue
        sentences.append(paragraph[start : match.end()].strip())
        start = match.end()
    sentences.append(paragraph[start:].strip())
    return [sentence for sentence in sentences if sentence]


def cut_long(paragraph):
    """The paragraph in parts of at most MAX_WORDS words, cut between sentences."""
    part, n_words = [], 0
    for sentence in split_sentences(paragraph):
        size = len(sentence.split())
        if part and n_words + size > MAX_WORDS:
            yield " ".join(part)
            part, n_words = [], 0
        part.append(sentence)
        n_words += size
    yield " ".join(part)


def is_prose(line):
    """No heading, list line or formula."""
    return len(line) > 60 and line[-1] in '.!?"' and line.count("  ") == 0 and "{" not in line and "|" not in line


def make_paragraphs(lines, most):
    """Paragraphs of the wanted length; short neighbours are joined unless a heading parts them."""
    paragraphs, pending = [], ""
    for line in [*lines, ""]:
        if is_prose(line) and len((pending + line).split()) <= MAX_WORDS:
            pending = f"{pending} {line}".strip()
            if len(pending.split()) < MIN_WORDS:
                continue
            line = ""
        for part in cut_long(pending):
            if MIN_WORDS <= len(part.split()) <= MAX_WORDS:
                paragraphs.append(part)
        pending = ""
        if is_prose(line):
            pending = line
            if len(line.split()) > MIN_WORDS:
                paragraphs += [part for part in cut_long(line) if MIN_WORDS <= len(part.split()) <= MAX_WORDS]
                pending = ""
        if len(paragraphs) >= most:
            break
    return paragraphs[:most]


PEOPLE_OPENING = re.compile(r"\b(?:born|\d{3,4}\s*[–-]\s*(?:[A-Z]?\w+ \d\d?, |\d\d? [A-Z]\w+ |c\. ?)?\d{3,4}\))")
CATEGORY = re.compile(
    r"\b(?:is|was|are|were) (?:an?|the|one of the)\s+((?:[\w'-]+ ){0,5}?[\w'-]+)"
    r"(?=[,.;(]| (?:who|which|that|and|or|in|of|from|for|by|at|on|to|with|where|used|born|located|based|known|"
    r"situated|whose|between|about|made|written|directed|founded|published|released|produced)\b)"
)


def read_article(text, most_paragraphs):
    """An article of the extracted text: its title stands in the first line. None where it has no prose."""
    lines = [tidy(line) for line in text.split("\n")]
    title, lines = lines[0], [line for line in lines[1:] if line]
    paragraphs = make_paragraphs(lines, most_paragraphs)
    if not paragraphs or not 2 <= len(title) <= 60:
        return None
    article = Article(title, paragraphs)
    article.opening = split_sentences(lines[0])[0] if lines else ""
    category = CATEGORY.search(article.opening)
    article.category = category[1].split()[-1] if category else ""
    article.is_person = bool(PEOPLE_OPENING.search(article.opening[:250])) and bool(
        re.search(r"\b(?:was|is) (?:an?|the|one)\b", article.opening)
    )
    return article
