"""Forms of questions: each takes a clause apart and yields (kind, question, answer)."""

import re

from .lexicon import AUXILIARIES, KINDS, MONTHS, PAST

NAME = r"[A-Z][\w'’.-]*(?:(?: (?:of|de|la|le|von|van|the|and|del|di))? [A-Z][\w'’.-]*)*"
TIME = re.compile(
    r"\b(?P<prep>in|on|since|until|around|during)(?: the year| about)? (?P<answer>(?:(?:early|late|mid) )?"
    rf"(?:(?:{MONTHS}) (?:\d{{1,2}}, )?|\d{{1,2}} (?:{MONTHS}) )?(?:1\d|20)\d\d(?: BC)?(?!\d|s|-|–|,\d)"
    rf"|(?:{MONTHS}) \d{{1,2}}\b|the (?:early |late |mid-?)?(?:\d+th|\d*1st|\d*2nd|\d*3rd) century(?: BC)?|the 1\d\d0s)"
)
ANY_TIME = re.compile(r"\b(?:1\d|20)\d\d\b|\bcentury\b")
NUMBER = (
    r"(?:\d[\d,]*(?:\.\d+)?(?: (?:million|billion|thousand|hundred))?|two|three|four|five|six|seven|eight|nine|ten|"
    r"eleven|"
    r"twelve|thirteen|fourteen|fifteen|sixteen|twenty|thirty|forty|fifty)"
)
ABOUT = (
    r"(?:(?:about|over|approximately|around|nearly|more than|some|almost|at least|up to|only|roughly|an estimated) )?"
)
COUNTED = re.compile(
    rf"{ABOUT}(?P<answer>{NUMBER}) (?P<noun>(?:[a-z-]+ ){{0,2}}?(?:[a-z]+s|people|men|women|children))\b"
)
PREPOSITIONS = (
    "in|on|at|for|from|to|with|by|as|during|after|before|under|into|against|between|through|over|within|"
    "among|throughout|near|across|along|upon|without|via|until|since|around|about|despite|towards?"
)
PHRASE = re.compile(rf"(?P<answer>(?:[^\s,]+ ){{0,5}}?[^\s,]+)(?= (?:{PREPOSITIONS}|that|and|or)\b|,(?!\d)|$)")
ADVERBS = {
    "not", "also", "only", "very", "more", "most", "less", "well", "often", "still", "then", "later", "now", "first",
    "always", "never", "much", "up", "out", "off", "down", "back", "away", "together", "so", "too", "that", "how",
    "what", "it", "him", "her", "them", "he", "she", "they", "there", "this", "these", "one", "all", "some", "many",
    "several", "such", "both", "each", "himself", "herself", "itself", "themselves", "able", "likely", "part",
    "because", "home", "here", "no", "few", "any", "his", "its", "their", "another", "other", "whether", "little",
    "been",
}  # fmt: skip


def join_words(*parts):
    return " ".join(part.strip() for part in parts if part.strip())


def without(text, match):
    return join_words(text[: match.start()], text[match.end() :])


def kind_of(name):
    """What a proper name's last or first word says it is: "university", "battle"; or ""."""
    words = name.lower().split()
    if name in {"United Kingdom", "United States", "Soviet Union", "European Union"}:
        return "country" if name[0] == "U" else "union"
    if words[-1] in KINDS:
        return words[-1]
    return words[0] if words[0] in KINDS and len(words) > 1 else ""


def bare(name):
    """An answer without the article in front of it."""
    return re.sub(r"^(?:the|a|an|The|A|An) ", "", name).strip(" ,.")


PERSON_OBJECTS = {
    "marry",
    "meet",
    "succeed",
    "defeat",
    "kill",
    "beat",
    "appoint",
    "hire",
    "replace",
    "befriend",
    "divorce",
}


def is_phrase(answer):
    """No verb in it: PHRASE may have gone too far."""
    words = answer.split()
    return not (set(words) & (AUXILIARIES | set(PAST) | {"should", "did", "allowed"}) or words[-1].endswith("ed"))


# What people alone do, behind an auxiliary or as a base.
HUMAN = re.compile(r"(?:born|educated|married|elected|appointed|knighted|ordained|arrested|marry|write|die|say|"
                   r"believe|argue|"
                   r"resign|compose|invent|claim|suggest|teach|study|paint|propose|describe)\b")  # fmt: skip


class Asker:
    """Asks about clauses; the random numbers choose between forms that say the same."""

    def __init__(self, lexicon, random):
        self.lexicon, self.random = lexicon, random

    def ask(self, clause, article):
        for form in (self.time, self.intro_time, self.place, self.count, self.measure, self.agent, self.subject,
                     self.named, self.object, self.complement, self.reason, self.manner, self.duration):  # fmt: skip
            yield from form(clause, article)

    def pick(self, *options):
        return self.random.choice(options)

    def in_context(self, clause, *parts):
        """A question of these parts; the adverbial in front of the clause stands in front, behind, or is left out."""
        question = join_words(*parts)
        draw = self.random.random()
        if not clause.intro or draw < 0.3:
            return question
        intro = clause.intro[0].lower() + clause.intro[1:]
        if draw < 0.55 and question.startswith(("What", "Who", "How", "Which", "Where")):
            return f"{clause.intro}, {question[0].lower()}{question[1:]}"
        return join_words(question, intro)

    # -- when, where, how many -------------------------------------------------------------------------------------

    def when(self, answer, prep):
        if prep in {"since", "until"}:
            return prep.capitalize() + " " + ("what year" if answer.isdigit() else "when")
        if answer.isdigit():
            return self.pick("When", "When", "In what year", "In which year", "What year")
        if "century" in answer:
            return self.pick("When", "In what century", "In which century")
        if re.fullmatch(r"the 1\d\d0s", answer):
            return self.pick("When", "In what decade")
        if re.search(r"\d{1,2}, |\d{1,2}$", answer) and re.match(MONTHS, answer):
            return self.pick("When", "On what date", "On what day", "When")
        return "When"

    def is_state(self, clause):
        """Whether the clause says what something is, of which one does not ask when or where."""
        return clause.auxiliary in {"is", "was", "are", "were"} and re.match(
            r"(?:\w+ly |also |still )?(?:an?|the|one|its|his|her)\b", clause.rest
        )

    def time(self, clause, article):
        if self.is_state(clause):
            return
        match = TIME.search(clause.rest)
        if match and not ANY_TIME.search(without(clause.rest, match) + clause.intro):
            if self.random.random() < 0.08 and match["answer"].isdigit():
                said = clause.predicate().replace(match["answer"], self.pick("what year", "which year"), 1)
                yield "time", join_words(clause.subject, said), match["answer"]
                return
            yield (
                "time",
                join_words(self.when(match["answer"], match["prep"]), clause.ask(without(clause.rest, match))),
                match["answer"],
            )

    def intro_time(self, clause, article):
        match = TIME.fullmatch(clause.intro[:1].lower() + clause.intro[1:])
        if match and not ANY_TIME.search(clause.rest):
            yield (
                "time",
                join_words(self.when(match["answer"], match["prep"]), clause.ask(clause.rest)),
                match["answer"],
            )

    def place(self, clause, article):
        if self.is_state(clause) or len(clause.rest.split()) > 14:
            return
        for match in re.finditer(
            rf"\b(?P<prep>in|at|near|to|from|into) (?P<answer>(?:the )?{NAME}(?:, {NAME})?)", clause.rest
        ):
            name = match["answer"]
            if re.match(rf"(?:the )?(?:{MONTHS})\b", name) or any(w in name for w in (" and ", "'s")):
                continue
            rest, kind = without(clause.rest, match), kind_of(bare(name).split(",")[0])
            tail = clause.rest[match.end() :]
            if re.search(r"\b(?:in|at|to|of)$", rest) or (tail and not re.match(rf" (?:{PREPOSITIONS})\b", tail)):
                continue
            if kind and match["prep"] in {"in", "at", "from"}:
                question = self.pick(
                    join_words(match["prep"].capitalize(), self.pick("what", "which"), kind, clause.ask(rest)),
                    join_words(self.pick("What", "Which"), kind, clause.ask(rest), match["prep"]),
                )
                yield "which", question, bare(name)
            elif bare(name).split(",")[0] in self.lexicon.places or "," in name:
                if match["prep"] in {"in", "at", "near"}:
                    yield "where", join_words("Where", clause.ask(rest)), bare(name)
                elif match.end() == len(clause.rest) or match.start() == 0:
                    yield "where", join_words("Where", clause.ask(rest), match["prep"]), bare(name)

    def count(self, clause, article):
        match = COUNTED.match(clause.rest)
        if match and not clause.auxiliary and match["noun"].split()[-1] not in {"is", "was", "has", "years"}:
            tail = clause.rest[match.end() :]
            of = re.match(r" of (?:the )?[\w-]+", tail)
            noun, tail = (match["noun"] + of[0], tail[of.end() :]) if of else (match["noun"], tail)
            if not tail or re.match(rf" (?:{PREPOSITIONS})\b", tail):
                yield "how many", join_words("How many", noun, clause.ask(tail)), match["answer"]
        match = COUNTED.fullmatch(clause.said[:1].lower() + clause.said[1:])
        if match:
            question = self.in_context(clause, "How many", match["noun"], clause.predicate())
            yield "how many", question, match["answer"]

    def measure(self, clause, article):
        percent = re.match(
            rf"{ABOUT}(?P<answer>\d[\d.]*(?:%| percent)) of (?P<of>.+)$", clause.said[:1].lower() + clause.said[1:]
        )
        if percent and " and " not in percent["of"]:
            question = join_words(
                self.pick("What percentage of", "What percent of", "How much of"), percent["of"], clause.predicate()
            )
            yield "how much", question, percent["answer"]
        match = re.search(
            rf"\b(?:by|to|at|for) {ABOUT}(?P<answer>[$£€][\d.,]+(?: (?:million|billion))?|(?<! at )\d[\d.]*(?:%| "
            rf"percent))(?! of)",
            clause.rest,
        )
        if match and not re.search(r"\d%|[$£€]", without(clause.rest, match)):
            prep = match[0].split()[0]
            question = join_words("How much", clause.ask(without(clause.rest, match)), prep if prep in {"for"} else "")
            yield "how much", question, match["answer"]
        match = re.match(r"(?P<answer>[$£€][\d.,]+(?: (?:million|billion))?)\b", clause.rest)
        if match and not clause.auxiliary:
            yield (
                "how much",
                join_words(self.pick("How much", "How much money"), clause.ask(clause.rest[match.end() :])),
                match["answer"],
            )
        match = re.match(rf"{ABOUT}(?P<answer>\d[\d.,]* (?:m|metres|meters|feet|ft|km|kilometres|kilometers|miles|"
                         rf"inches|cm|years))"
                         r" (?P<how>long|tall|high|wide|deep|old)\b", clause.rest)  # fmt: skip
        if match and clause.auxiliary in {"is", "was", "are", "were"} and " and " not in clause.rest:
            yield "how much", join_words("How", match["how"], clause.ask(clause.rest[match.end() :])), match["answer"]
        match = re.match(rf"(?:an? )?(?P<what>(?:total |estimated |average |maximum )?(?:population|area|length|"
                         rf"height|capacity|budget|density|elevation)) of {ABOUT}"
                         r"(?P<answer>[$£€]?\d[\d,.]*\d(?: (?:million|billion|square miles|square kilometers|sq mi|"
                         r"km2|km|miles|meters|metres|feet|m|acres|people|hectares))?)", clause.rest)  # fmt: skip
        if match and clause.verb in {"has", "had", "covers", "covered", "reached"}:
            verb = "was" if clause.verb in {"had", "covered", "reached"} else "is"
            yield "how much", f"What {verb} the {match['what']} of {clause.subject}", match["answer"]

    def duration(self, clause, article):
        match = re.search(
            rf"\bfor {ABOUT}(?P<answer>(?:{NUMBER}) (?:years|months|days|weeks|hours|minutes|decades|centuries))\b",
            clause.rest,
        )
        if match and len(clause.rest.split()) < 14 and not self.is_state(clause):
            yield (
                "how long",
                join_words(self.pick("How long", "For how long"), clause.ask(without(clause.rest, match))),
                match["answer"],
            )

    # -- who and what ----------------------------------------------------------------------------------------------

    def described_person(self, phrase):
        """(what describes a person, the name) of "the French engineer Gustave Eiffel", or None."""
        match = re.fullmatch(
            rf"(?:the |The |an? |An? )?(?P<what>(?:[A-Z][a-z]+ )?(?:[a-z-]+ ){{0,2}}(?P<role>[a-z-]+)) "
            rf"(?P<name>{NAME})",
            phrase,
        )
        if match and match["role"] in self.lexicon.occupations:
            return match["what"], match["name"]
        return None

    def wh_of(self, phrase, article):
        """("Who", "What", "Which river", ...; the answer) for a phrase that stands for someone or something."""
        described = self.described_person(phrase)
        if described:
            return f"{self.pick('Which', 'What')} {described[0]}", described[1]
        name = bare(phrase)
        surname = article.is_person and name in article.name.split()
        if surname or self.lexicon.is_person(name):
            return "Who", name
        kind = kind_of(name)
        if kind and re.fullmatch(NAME, name):
            return f"{self.pick('Which', 'What')} {kind}", name
        last = name.split()[-1]
        if last in self.lexicon.occupations and not last.endswith("s"):
            return "Who", name
        return "What", name

    def agent(self, clause, article):
        if clause.auxiliary not in {"was", "were", "is", "are"}:
            return
        match = re.match(
            rf"(?P<verb>(?:\w+ly )?(?P<participle>\w+))(?P<middle>(?: (?:in|on|at) [^,]{{3,30}}?)?) by "
            rf"(?P<agent>(?:the |an? )?(?:[\w'’.-]+ ){{0,5}}?[\w'’.-]+)(?P<tail>| (?:{PREPOSITIONS})\b.*)$",
            clause.rest,
        )
        if not match or not self.lexicon.is_participle(match["participle"]) or re.match(r"\w+ing\b|\d", match["agent"]):
            return
        if not match["agent"][0].isupper() and (
            len(match["agent"].split()) < 2 or not self.lexicon.ends_in_noun(match["agent"])
        ):
            return
        if match["participle"] in {"followed", "surrounded", "bordered", "caused"}:
            wh, answer = "What", bare(match["agent"])
        else:
            wh, answer = self.wh_of(match["agent"], article)
            if wh == "What" and answer[0].isupper():
                wh = "Who"
        tail = join_words(match["middle"], match["tail"])
        participle = match["participle"]
        past = participle if self.lexicon.past_base(participle) else ""
        if past and self.random.random() < 0.5:
            yield "agent", self.in_context(clause, wh, past, clause.subject, tail), answer
        elif self.random.random() < 0.5:
            yield "agent", join_words(wh, clause.ask(match["verb"]), "by", tail), answer
        else:
            yield "agent", join_words("By", wh.lower().replace("who", "whom"), clause.ask(match["verb"]), tail), answer

    def subject(self, clause, article):
        said = clause.said
        if not said or len(said.split()) > 6 or len(clause.rest.split()) < 4 or re.search(r"\d", said[:2]):
            return
        if not re.search(r"[A-Z]|\d", clause.rest) and self.random.random() < 0.7:
            return
        if said.split()[0] in {"A", "An", "His", "Her", "Its", "This", "Any", "No", "Every"} or "," in said:
            return
        wh, answer = self.wh_of(said, article)
        if wh == "What" and not (answer[0].isupper() or len(answer.split()) > 1):
            return
        if wh == "What" and answer[0].isupper() and HUMAN.match(clause.rest if clause.auxiliary else clause.base):
            wh = "Who"
        yield "subject", self.in_context(clause, wh, clause.predicate()), answer

    def named(self, clause, article):
        match = re.match(
            r"(?P<verb>(?:\w+ly |also |often )*(?:known as|called|named|nicknamed|dubbed|titled|entitled|renamed(?: "
            r"to)?|referred to as|termed)) (?P<answer>(?:the )?\"?[^,]{2,50}?\"?)(?= (?:in|by|after|because|and|from|"
            r"on|for|or)\b|$)",
            clause.rest,
        )
        if not match or clause.auxiliary not in {"is", "was", "are", "were"}:
            return
        goes_on = clause.rest[match.end() :].startswith((" and", " or"))
        if not goes_on and not re.match(rf"(?:{PREPOSITIONS})\b", match["answer"]):
            verb = re.sub(r"^(?:also|often|\w+ly) ", "", match["verb"])
            yield (
                "named",
                join_words("What", clause.ask(verb), clause.rest[match.end() :]),
                bare(match["answer"].strip('"')),
            )

    def object(self, clause, article):
        if clause.auxiliary or clause.base in {"have", "take", "make", "mean", "say", "remain"}:
            return
        match = PHRASE.match(clause.rest)
        first = clause.rest.split()[0].lower()
        if (
            not match
            or first in ADVERBS
            or first.endswith("ly")
            or re.fullmatch(rf"{PREPOSITIONS}|of", first)
            or first[0].isdigit()
        ):
            return
        if self.lexicon.is_participle(first) or " of" == match["answer"][-3:] or match["answer"].split()[-1] in ADVERBS:
            return
        if re.match(rf"{ABOUT}{NUMBER}\b", match["answer"]):
            return
        tail = clause.rest[match.end() :]
        if re.match(r" (?:and|or|that)\b|,", tail):
            return
        if (
            not self.lexicon.ends_in_noun(match["answer"])
            or not is_phrase(match["answer"])
            or match["answer"] in {"part", "place", "time"}
        ):
            return
        wh, answer = self.wh_of(match["answer"], article)
        if wh == "What" and clause.base in PERSON_OBJECTS and answer[0].isupper():
            wh = self.pick("Who", "Who", "Whom")
        words = match["answer"].split()
        if wh == "What" and answer.islower() and 2 <= len(words) <= 3 and self.random.random() < 0.4:
            wh = f"What {self.pick('kind', 'type', 'sort')} of {words[-1]}"
        yield "object", self.in_context(clause, wh, clause.ask(tail)), answer

    def complement(self, clause, article):
        """What stands behind a preposition that follows the verb: "consists of", "is used for"."""
        if clause.auxiliary:
            match = re.match(
                rf"(?P<verb>(?:also |\w+ly )?(?:been )?(?P<participle>[a-z]+) (?P<prep>of|to|for|with|from|as|into|"
                rf"on|against|after|under)) {PHRASE.pattern}",
                clause.rest,
            )
            usable = match and self.lexicon.is_participle(match["participle"])
        else:
            match = re.match(
                rf"(?P<verb>(?P<prep>of|to|for|with|from|as|into|on|against|after|under|in)) {PHRASE.pattern}",
                clause.rest,
            )
            usable = match is not None
        if (
            not usable
            or match["answer"].split()[0].lower() in ADVERBS | {"be", "have"}
            or ANY_TIME.search(match["answer"])
        ):
            return
        first = match["answer"].split()[0]
        if first in self.lexicon.verbs and match["prep"] == "to":
            if clause.auxiliary:
                yield (
                    "object",
                    join_words("What", clause.ask(match["verb"]), "do"),
                    clause.rest[match.start("answer") :],
                )
            return
        if bare(match["answer"]).split(",")[0] in self.lexicon.places or re.match(
            rf"(?:{MONTHS})\b|\d", match["answer"]
        ):
            return
        if not self.lexicon.ends_in_noun(match["answer"]) or not is_phrase(match["answer"]):
            return
        wh, answer = self.wh_of(match["answer"], article)
        tail = clause.rest[match.end() :]
        if tail.startswith(","):
            return
        if re.match(r" (?:and|or|that)\b", tail):
            answer += tail if len(tail.split()) < 5 else ""
            tail = ""
        if wh != "Who" and self.random.random() < 0.12:
            said = join_words(clause.subject, clause.auxiliary or clause.verb, match["verb"], wh.lower(), tail)
            yield "complement", said[0].upper() + said[1:], answer
            return
        yield "complement", self.in_context(clause, wh, clause.ask(match["verb"]), tail), answer

    # -- why and how -----------------------------------------------------------------------------------------------

    def reason(self, clause, article):
        if self.is_state(clause):
            return
        match = re.search(
            r" (?:because of |because |due to |in order (?=to )|as a result of )(?P<answer>[^,;]+)", clause.whole
        )
        if (
            match
            and "," not in clause.whole[: match.start()]
            and not re.search(
                r"\b(?:which|that|who|partly|mainly|largely|and|be|primarily|only|mostly|\w+ly)$|\band (?:.* "
                r")?(?:\w+ed|was|is|were|are|had)\b",
                clause.whole[: match.start()],
            )
        ):
            yield "why", join_words("Why", clause.ask(clause.whole[: match.start()])), match["answer"]

    def manner(self, clause, article):
        match = re.search(r" (?P<answer>by [a-z]+ing [^,;]+)$", clause.rest)
        if (
            match
            and not self.is_state(clause)
            and not re.search(r"\b(?:even|only|and|accompanied|followed)$", clause.rest[: match.start()])
        ):
            yield "how", join_words("How", clause.ask(clause.rest[: match.start()])), match["answer"]
