"""Questions about countries from the World Factbook's pages."""

import html
import json
import re

FIELDS = [  # (path of keys, questions, how the answer stands in the field)
    ("Government/Capital/name", ["What is the capital of "
                                 "{}?", "Which city is the capital of {}?"], r"^([A-Z][\w' .-]+)"),
    ("Government/Country name/conventional long "
     "form", ["What is the official name of "
              "{}?", "What is the conventional long form of the name {}?"], r"^([A-Z][\w' .-]+)"),
    ("Government/Independence", ["When did {} become "
                                 "independent?", "What is the date of {}'s independence?"], r"^(\d{1,2} \w+ \d{4})"),
    ("Government/National anthem/name", ["What is the national anthem of {} called?"], r'^"?([^"(]+?)"? *(?:\(|$)'),
    ("Geography/Area/total", ["What is the total area of {}?", "How large is {}?"], r"^([\d,.]+ sq km)"),
    ("Geography/Coastline", ["How long is the coastline of {}?"], r"^([\d,.]+ km)"),
    ("Geography/Location", ["Where is {}?", "In which part of the world does {} lie?"], r"^([^,;]+)"),
    ("Geography/Climate", ["What is the climate of {} like?"], r"^([^,;]+)"),
    ("Geography/Elevation/highest point", ["What is the highest point of {}?"], r"^([A-Z][\w' ()-]+?) [\d,]+ m"),
    ("Geography/Area - comparative", ["How does {} compare in area?"], r"^([^;,(]+)"),
    ("People and Society/Population", ["What is the population of "
                                       "{}?", "How many people live in {}?"], r"^([\d,]{5,})"),
    ("People and Society/Languages", ["Which language is spoken by most people in {}?"], r"^([A-Z]\w+)"),
    ("People and Society/Religions", ["What is the main religion in {}?"], r"^([A-Z][\w ]+?) [\d(]"),
    ("People and Society/Median age/total", ["What is the median age in {}?"], r"^([\d.]+ years)"),
    ("People and Society/Life expectancy at birth/total "
     "population", ["What is the life expectancy in {}?"], r"^([\d.]+ years)"),
    ("Economy/Exchange rates/currency", ["What is the currency of {}?"], r"^([\w' ]+?) (?:\(|per)"),
    ("Economy/Inflation rate (consumer prices)", ["What is the rate of inflation in {}?"], r"^(-?[\d.]+%)"),
    ("Economy/Unemployment rate", ["What is the unemployment rate in {}?"], r"^([\d.]+%)"),
    ("Communications/Internet country code", ["What is the internet country code of {}?"], r"^(\.\w\w)"),
    ("Transportation/Airports", ["How many airports are there in "
                                 "{}?", "How many airports does {} have?"], r"^(\d[\d,]*)"),
    ("Transportation/Railways/total", ["How long are {}'s railways?"], r"^([\d,.]+ km)"),
]  # fmt: skip


def plain(value):
    """A field's text; the factbook writes {"text": ...}, or parts with such fields."""
    if isinstance(value, dict):
        if "text" in value:
            value = value["text"]
        else:
            return "; ".join(f"{key}: {plain(part)}" for key, part in value.items())
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^<>]*>", " ", str(value)))).strip()


def find(country, path):
    for key in path.split("/"):
        if not isinstance(country, dict) or key not in country:
            return None
        country = country[key]
    return plain(country)


def read_countries(clone, random):
    """(documents of one country, [(question, answer, number of the document)])."""
    for _, text in clone.texts(clone.paths(r"(?!meta/)[\w-]+/\w+\.json")):
        country = json.loads(text)
        name = find(country, "Government/Country name/conventional short form") or ""
        if not re.fullmatch(r"[A-Z][\w' -]{3,30}", name) or name == "none":
            continue
        sections = [section for section in country if isinstance(country[section], dict) and section != "Introduction"]
        documents, places = [], {}
        for section in sections:
            lines = [f"{key}: {value[:240]}" for key in country[section] if (value := plain(country[section][key]))]
            for start in range(0, len(lines), 9):
                documents.append("\n".join([f"{name}: {section}", *lines[start : start + 9]]))
                places.setdefault(section, []).append(len(documents) - 1)
        questions = []
        for path, forms, pattern in FIELDS:
            match = re.search(pattern, find(country, path) or "")
            if not match or len(match[1].split()) > 8 or match[1] in path:
                continue
            key = path.split("/")[1]
            where = [
                i
                for i in places.get(path.split("/")[0], [])
                if f"\n{key}: " in documents[i] and match[1] in documents[i]
            ]
            if where:
                questions.append((random.choice(forms).format(name), match[1].strip(), where[0]))
        yield documents, questions
