"""Questions that an article's opening sentence answers, and phrases that explain themselves anywhere."""

import re

from .forms import ABOUT, NAME, NUMBER, PREPOSITIONS, bare
from .lexicon import MONTHS

DATE = rf"(?:(?:{MONTHS}) \d{{1,2}}, \d{{3,4}}|\d{{1,2}} (?:{MONTHS}) \d{{3,4}}|(?:c\. ?)?\d{{3,4}}(?: BC)?)"
BORN = re.compile(rf"\((?:[^()]*?[;,] )??(?:born )?(?P<born>{DATE})\s*[–-]\s*(?P<died>{DATE})\)")
BORN_ALIVE = re.compile(
    rf"\((?:[^()]*?[;,] )??born (?:[^(),]{{0,20}} on )?(?P<born>{DATE})(?: in (?P<place>[^()]+))?\)"
)
BE = r"(?P<be>is|was|are|were)"
DEFINITION = re.compile(
    rf"(?: \([^()]*\))*,? {BE} (?P<article>an?|the|one of the) (?P<what>(?:[\w'’-]+,? ){{0,6}}?[\w'’-]+)"
    r"(?=[,.;(]| (?:who|which|that|in|from|for|by|at|on|to|with|where|used|located|based|known|situated|whose|"
    r"between|born|"
    r"about|made|written|directed|founded|published|released|produced|and (?:the|an?|one|is|was)|composed|consisting|"
    r"designed|created|developed|formed|built|held|named|owned|operated|covering|during|of)\b)(?P<of> of (?:the |an? "
    r")?[\w'’-]+(?: [A-Z][\w'’-]+)*)?"
)
LOCATED = re.compile(
    rf" (?:located |situated |based )?in (?P<place>(?:the )?(?:\w+ (?:of|part of|region of) )?(?:the )?{NAME}(?:, "
    rf"{NAME})*)"
)
WEAK = {
    "name",
    "term",
    "word",
    "list",
    "type",
    "kind",
    "form",
    "part",
    "number",
    "set",
    "one",
    "group",
    "way",
    "act",
    "series",
}


def ask_opening(article, lexicon, random):
    """(kind, question, answer) from "X (born ...) is a Y in Z ..."."""
    text, name = article.opening, article.name
    position = text.find(name)
    if article.is_person:
        match = BORN.search(text[:300])
        if match:
            forms = ["When was {} born?", "What is {}'s date of birth?", "On what date was {} born?"]
            yield "born", random.choice(forms if len(match["born"]) > 7 else forms[:1]).format(name), match["born"]
            forms = ["When did {} die?", "What is the date of {}'s death?", "On what date did {} die?"]
            yield "died", random.choice(forms if len(match["died"]) > 7 else forms[:1]).format(name), match["died"]
        match = BORN_ALIVE.search(text[:300])
        if match:
            yield "born", random.choice(["When was {} born?", "What is {}'s birthday?"]).format(name), match["born"]
    match = DEFINITION.search(text)
    if not match or match.start() > 260 or match["what"].split()[-1] in WEAK or not lexicon.ends_in_noun(match["what"]):
        return
    if position not in range(0, 6) and not article.is_person:
        return
    what, of = match["what"], match["of"] or ""
    if not re.match(r"[,.;]| (?:and|who|which|that|in|from|at|on)\b", text[match.end() :]):
        of = ""
    if not of and text[match.end("what") :].startswith(" of "):
        return
    if article.is_person:
        nation = what.split()[0]
        if nation in lexicon.nationalities:
            yield (
                "nationality",
                random.choice(["What nationality {} {}?", "What {} the nationality of {}?"]).format(match["be"], name),
                nation,
            )
            what_else = what[len(nation) :].strip()
            if what_else:
                question = random.choice(
                    ["What {} {}'s profession?", "What {} {}'s occupation?", "What did {1} do for a living?"]
                )
                yield "profession", question.format(match["be"], name), what_else
        yield "who is", random.choice(["Who {} {}?", "Who exactly {} {}?"]).format(match["be"], name), what + of
        return
    common = not lexicon.is_name(name.split()[0]) and not any(word[0].isupper() for word in name.split()[1:])
    plain = name[0].lower() + name[1:] if common else name
    subject = text[position : position + len(name)]
    if match.start() > position + len(name) + 60:
        return
    the = "the " if text.lower().startswith("the " + name.lower()) else ""
    yield "what is", random.choice(["What {} {}?", "What {} {}?", "How can {1} be "
                                                                  "described?", "What kind of thing {} {}?"]).format(
        match["be"], the + (plain if subject else name)), (what + of)  # fmt: skip
    located = LOCATED.match(text[match.end("what") :])
    if (
        located
        and (bare(located["place"]).split(",")[0] in lexicon.places or "," in located["place"])
        and len(located["place"].split()) <= 6
    ):
        yield "where is", random.choice(["Where {} {}?", "Where {} {} located?", "In what place can {1} be "
                                                                                 "found?"]).format(
            match["be"], the + name), located["place"]  # fmt: skip


APPOSITION = re.compile(rf"(?<![\w-] )(?P<name>{NAME}), (?P<article>the|an?) (?P<what>[a-zA-Z][\w' -]{{6,60}}),")
ROLES = set(
    """
father mother daughter son founder leader head keeper president king queen wife husband brother sister author inventor
director editor chairman owner ruler emperor bishop governor minister captain commander
""".split()
)
ACRONYM = re.compile(r"(?P<long>(?:[A-Z][\w-]+ (?:of |and |for |the |in )*){1,6}[A-Z][\w-]+) \((?P<short>[A-Z]{2,6})\)")
MEANS = re.compile(
    r'(?P<term>"[\w \'-]{2,40}") (?:\([^()]*\) )?(?:means|meaning|literally means) "(?P<meaning>[^"]{3,50})"'
)
THERE = re.compile(rf"There (?P<be>are|were) (?:currently |also )?{ABOUT}(?P<answer>{NUMBER}) (?P<what>[a-z][\w -]+? "
                   rf"(?:in|on|at|of) [\w' -]+?)"
                   r"(?=[.,;]| (?:and|which|who|that|with|as|including|between)\b)")  # fmt: skip


def ask_phrases(sentence, lexicon, random):
    """(kind, question, answer) from appositions, abbreviations and explained words."""
    match = APPOSITION.match(sentence)
    if (
        match
        and not re.match(rf"(?:{PREPOSITIONS})\b", match["name"].lower())
        and 1 < len(match["name"].split()) < 6
        and not re.match(MONTHS, match["name"])
    ):
        is_person = lexicon.is_person(match["name"]) or match["what"].split()[0] in ROLES
        if (
            match["article"] == "the"
            and " of " in match["what"]
            and len(match["what"].split()) < 8
            and " is" not in match["what"]
        ):
            wh = "Who" if is_person else "What"
            yield (
                "apposition",
                random.choice([f"{wh} is the {match['what']}?", f"{wh} was the {match['what']}?"]),
                match["name"],
            )
        elif match["article"] != "the" and is_person and "and" not in match["what"]:
            yield "apposition", f"Who was {match['name']}?", match["what"]
    match = ACRONYM.search(sentence)
    if match:
        initials = "".join(word[0] for word in match["long"].split() if word[0].isupper())
        at = initials.rfind(match["short"])
        if at >= 0:
            words = match["long"].split()
            capitals = [i for i, word in enumerate(words) if word[0].isupper()]
            long = " ".join(words[capitals[at] :])
            if random.random() < 0.7:
                question = random.choice(
                    ["What does {} stand for?", "What does the abbreviation {} mean?", "What is {} short for?"]
                )
                yield "acronym", question.format(match["short"]), long
            else:
                question = random.choice(
                    ["What is the abbreviation of {}?", "What is the acronym for the {}?", "How is the {} abbreviated?"]
                )
                yield "acronym", question.format(long), match["short"]
    match = THERE.match(sentence)
    if match and not re.search(r" (?:of which|at an?|versus)\b", match["what"]):
        noun, _, place = match["what"].partition(" in ")
        yield "how many", f"How many {noun} {match['be']} there {'in ' + place if place else ''}", match["answer"]
    match = MEANS.search(sentence)
    if match:
        yield (
            "means",
            random.choice(["What does {} mean?", "What is the meaning of {}?"]).format(match["term"]),
            match["meaning"],
        )
    match = re.search(rf"\bcapital (?:city )?of (?P<of>{NAME}),? is (?P<city>{NAME})", sentence)
    if match:
        yield "apposition", f"What is the capital of {match['of']}?", bare(match["city"])
