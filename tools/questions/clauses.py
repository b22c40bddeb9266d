"""Main clauses of sentences: subject, verb and what follows, so far as a few patterns can tell. What they cannot tell
is left out; there are more sentences than are needed."""

import re
from dataclasses import dataclass

from .lexicon import AUXILIARIES, MONTHS, PAST

PRONOUNS = {"He", "She", "It"}
NOT_IN_SUBJECT = {
    "that", "which", "who", "whom", "whose", "where", "when", "while", "if", "because", "although", "though", "but",
    "not", "there", "it", "this", "these", "those", "they", "he", "she", "we", "you", "i", "what", "how", "why", "as",
    "such", "so", "both", "either", "neither", "another", "other", "others", "latter", "former", "to", "than", "some",
    "many", "most", "one", "several", "also", "none", "their", "more", "my", "whether", "our", "each", "all",
    "few", "being", "having",
}  # fmt: skip
LEADING_PREPOSITIONS = set(
    "in on at from for by with during after before under since until around as of between".split()
)
VERB_WORDS = AUXILIARIES | {"he", "she", "it", "they", "to", "did", "does"}
CONNECTIVES = re.compile(
    r"^(?:However|Additionally|Also|Moreover|Furthermore|Thus|Therefore|Later|Today|Currently|Historically|Originally|"
    r"Finally|Initially|Traditionally|Eventually|Subsequently|Nevertheless|Consequently|In addition|For example|"
    r"As a result|In fact|Meanwhile|Similarly|Hence), "
)
INTRO = re.compile(
    r"^(?P<intro>(?:In|On|During|After|Since|From|At|Before|Until|Under|By|Around|Between|As of|For|With|Following) "
    r"[^,]{2,60}(?:, \d{4})?), (?P<rest>(?:[A-Z]|the |a |an |he |she |it )[\s\S]*)$"
)
PRESENT = {
    "means": "mean", "consists": "consist", "contains": "contain", "includes": "include", "lies": "lie",
    "lives": "live", "provides": "provide", "uses": "use", "plays": "play", "produces": "produce", "covers": "cover",
    "refers": "refer", "comes": "come", "serves": "serve", "takes": "take", "begins": "begin", "belongs": "belong",
    "occurs": "occur", "describes": "describe", "requires": "require", "stands": "stand", "derives": "derive",
    "receives": "receive", "holds": "hold", "offers": "offer", "gives": "give", "borders": "border", "hosts": "host",
    "follows": "follow", "features": "feature", "represents": "represent", "owns": "own", "operates": "operate",
    "remains": "remain", "makes": "make", "supports": "support", "allows": "allow", "causes": "cause", "has": "have",
    "depends": "depend", "defines": "define", "forms": "form", "measures": "measure", "tells": "tell",
}  # fmt: skip
CLAUSE_END = re.compile(
    r",(?=\s)(?! \d{4}\b)(?! [A-Z][\w'-]+(?: [A-Z][\w'-]+)?(?:,|$))|;|:| – | — |\s(?:but|while|whereas|although|"
    r"though|which|who|whose|"
    r"whom|where|when|because|if|until|unless|after|before|since|so|as well as|in order to|due to|rather than|than|"
    r"according to|including|such as)\b(?! (?:Christ|\d{3,4}|January|February|March|April|May|June|July|August|"
    r"September|October|November|December))"
)


@dataclass
class Clause:
    subject: str  # as it stands in a question: pronouns resolved, a common word's capital gone
    said: str  # as it stands in the sentence, "" if that is not what the subject is called
    auxiliary: str  # "" where the verb stands in the simple past or present
    verb: str
    base: str
    rest: str  # behind the auxiliary, or the verb
    whole: str  # the same with what CLAUSE_END cut off
    intro: str = ""
    present: bool = False
    is_title: bool = False  # the subject is what the article is about

    def ask(self, rest):
        """The words of a question behind its "When", "What", ..."""
        if self.auxiliary:
            return f"{self.auxiliary} {self.subject} {rest}"
        return f"{'does' if self.present else 'did'} {self.subject} {self.base} {rest}"

    def predicate(self):
        return f"{self.auxiliary or self.verb} {self.rest}"


def resolve(subject, article, is_first, lexicon):
    """(subject for questions, subject as said or "", whether it is the article's); None if it cannot be told."""
    first = subject.split()[0]
    if subject in PRONOUNS:
        person = subject != "It"
        return (article.name, "", True) if person == article.is_person and (person or is_first) else None
    if subject in {"His", "Her", "Its"}:
        return None
    if first in {"His", "Her", "Its"}:
        if (first != "Its") != article.is_person or (first == "Its" and not is_first):
            return None
        return f"{article.name}'s {subject.split(maxsplit=1)[1]}", "", False
    if re.fullmatch(r"The [a-z]+", subject) and subject[4:] == article.category and not article.is_person:
        return article.name, "", True
    words = article.name.split()
    if subject == article.name or (article.is_person and len(words) > 1 and subject == words[-1]):
        return article.name, subject, True
    plain = len(subject.split()) == 1 or subject.split()[1].islower()
    if first in {"The", "A", "An"} or (plain and not lexicon.is_name(first)):
        return subject[0].lower() + subject[1:], subject, False
    return subject, subject, False


def cut_clause(rest, lexicon):
    """What belongs to the verb: up to the next clause, or to an "and" with a verb behind it."""
    end = CLAUSE_END.search(rest)
    rest = rest[: end.start()] if end else rest
    for match in re.finditer(r" (?:and|or) (?:\w+ly |then |later |also )?(\w+)", rest):
        word = match[1]
        if (word in VERB_WORDS or word in PRESENT or word.endswith("ed") or lexicon.is_participle(word)
                or AUXILIARIES & set(rest[match.end() :].split())):  # fmt: skip
            return rest[: match.start()]
    return rest.strip(" ,")


def is_whole(cut, rest):
    """Whether a clause still makes sense without what was cut off: "a century [before ...]" does not."""
    if re.match(r"(?:before|after|than|since|until|as|so)\b", rest[len(cut) :].strip()):
        return False
    return not re.search(
        r"\b(?:in|on|at|for|from|to|with|by|of|as|and|or|the|a|an|during|under|into|that|through|over|upon)$", cut
    )


def parse(sentence, article, is_first, lexicon):
    """The main clause of a sentence, or None."""
    sentence = re.sub(r"\s*\([^()]*\)", "", sentence).strip()
    sentence = CONNECTIVES.sub("", sentence)
    if (
        not 30 <= len(sentence) <= 320
        or sentence[-1] != "."
        or sentence.count('"') % 2
        or re.search(r"[()\[\]=]", sentence)
    ):
        return None
    sentence, intro = sentence[:-1], ""
    match = INTRO.match(sentence)
    if match and re.match(rf"(?:{MONTHS})\b", match["rest"]) is None:
        intro, sentence = match["intro"], match["rest"]
    sentence = sentence[0].upper() + sentence[1:]
    return find_verb(sentence, intro, article, is_first, lexicon)


def find_verb(sentence, intro, article, is_first, lexicon):
    for match in re.finditer(r"[^\s,]+,?", sentence[:140]):
        word = match[0]
        if match.start() == 0:
            if word.lower() in (NOT_IN_SUBJECT - {"it", "he", "she"}) | LEADING_PREPOSITIONS or word.endswith(","):
                return None
            continue
        if word.lower() in NOT_IN_SUBJECT or word.endswith(",") or re.search(r"[\"”]", word) and len(word) < 3:
            return None
        before = sentence[: match.start()].strip()
        rest = sentence[match.end() :].strip()
        auxiliary = word if word in AUXILIARIES else ""
        base = lexicon.past_base(word)
        present = False
        if not auxiliary and base is None and word in PRESENT:
            base, present = PRESENT[word], True
        if word == "has" and not has_participle(rest, lexicon):
            auxiliary, base, present = "", "have", True
        elif word in {"had", "have"} and not has_participle(rest, lexicon):
            auxiliary, base = "", "have"
            if word == "have":
                return None
        if not auxiliary and base is None:
            continue
        return make_clause(before, word, auxiliary, base, present, rest, intro, article, is_first, lexicon)
    return None


def has_participle(rest, lexicon):
    words = [word for word in rest.split()[:3] if not word.endswith("ly") and word not in {"also", "not", "been"}]
    return bool(words) and (
        words[0] in {"been", "done"} or words[0].endswith(("ed", "en")) or lexicon.is_participle(words[0])
    )


def make_clause(before, word, auxiliary, base, present, rest, intro, article, is_first, lexicon):
    before = re.sub(
        r" (?:\w+ly|also|often|then|later|soon|first|still|never|again|now|even|only|usually|always)$", "", before
    )
    if len(before.split()) > 9 or len(rest.split()) < 2:
        return None
    if not auxiliary and not present:
        # "The theory proposed by X was ...": no finite verb yet.
        if re.match(r"(?:by|that|as)\b", rest) or re.search(r"^(?:\S+ ){0,7}(?:is|was|are|were|has|had|can)\b", rest):
            return None
    resolved = resolve(before, article, is_first, lexicon)
    if resolved is None:
        return None
    subject, said, is_title = resolved
    cut = cut_clause(rest, lexicon)
    if (
        not cut
        or not is_whole(cut, rest)
        or re.search(r"\b(?:that|no|not|never|nor)\b", cut)
        or re.match(r"(?:and|or)\b", rest)
    ):
        return None
    if not auxiliary and not present and any(word in PAST or lexicon.past_base(word) for word in cut.split()):
        return None  # "Keyboards attached to computers ... used": which one is the verb cannot be told
    return Clause(subject, said, auxiliary, word, base or "", cut, rest, intro, present, is_title)
