"""Words that questions are made with: what English grammar wants as a table, and what the articles themselves teach."""

import re
from collections import Counter

# Past tense, and past participle where it is another word: base.
IRREGULAR = """
became:become began/begun:begin bore/born:bear bought:buy broke/broken:break brought:bring built:build came:come
caught:catch chose/chosen:choose drew/drawn:draw drove/driven:drive fell/fallen:fall felt:feel fought:fight found:find
flew/flown:fly gave/given:give went/gone:go got:get grew/grown:grow heard:hear held:hold kept:keep knew/known:know
laid:lay led:lead left:leave lent:lend lost:lose made:make meant:mean met:meet paid:pay ran:run rose/risen:rise
said:say saw/seen:see sold:sell sent:send shot:shoot sang/sung:sing sank/sunk:sink slept:sleep spent:spend
spoke/spoken:speak stood:stand stole/stolen:steal swam/swum:swim took/taken:take taught:teach told:tell
thought:think threw/thrown:throw understood:understand won:win wore/worn:wear wrote/written:write
sought:seek struck:strike swore/sworn:swear withdrew/withdrawn:withdraw overthrew/overthrown:overthrow
forbade/forbidden:forbid froze/frozen:freeze hid/hidden:hide lay/lain:lie dealt:deal bred:breed fed:feed fled:flee
hung:hang rode/ridden:ride underwent/undergone:undergo undertook/undertaken:undertake overtook/overtaken:overtake
arose/arisen:arise awoke/awoken:awake beat/beaten:beat blew/blown:blow shook/shaken:shake
"""
PAST, PARTICIPLE = {}, {}
for entry in IRREGULAR.split():
    forms, _, base = entry.partition(":")
    past, _, participle = forms.partition("/")
    PAST[past] = base
    PARTICIPLE[participle or past] = base

AUXILIARIES = {"is", "are", "was", "were", "has", "had", "have", "can", "could", "will", "would", "may", "must"}
MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"

# Nouns that name what kind of thing a proper name is: the "Which ...?" of a question.
KINDS = """university college school academy institute museum library church cathedral abbey temple palace castle fort
tower bridge river lake sea ocean bay island mountain valley desert canal strait peninsula city town village county
province state district region kingdom empire republic dynasty war battle siege treaty revolution rebellion act law
party league union club team association society company corporation bank newspaper magazine journal award prize medal
festival cup championship theatre hospital station airport railway line street avenue square park stadium language
religion order tribe project program mission agency department ministry commission committee council court parliament
congress senate conference convention law theorem theory movement period age century album song novel film opera
symphony""".split()

SYNONYMS = {
    "founded": ["established", "set up"], "established": ["founded", "set up"], "created": ["made"],
    "began": ["started"], "begin": ["start"], "ended": ["finished"], "end": ["finish"], "located": ["situated"],
    "situated": ["located"], "move": ["relocate"], "built": ["constructed"], "build": ["construct"],
    "constructed": ["built"], "large": ["big"], "published": ["released"],
    "released": ["put out"], "received": ["got"], "receive": ["get", "obtain"], "killed": ["put to death"],
    "used": ["employed"], "called": ["named"], "named": ["called"], "appointed": ["chosen"], "chosen": ["selected"],
    "introduced": ["brought in"], "purchased": ["bought"], "purchase": ["buy"], "wrote": ["authored"],
    "write": ["author"], "discovered": ["found"], "discover": ["find"], "destroyed": ["ruined"], "return": ["go back"],
    "join": ["become a member of"], "marry": ["wed"], "attend": ["go to"], "won": ["gained"], "abolished": ["ended"],
    "largest": ["biggest"], "approximately": ["about"], "produced": ["made"], "produce": ["make"], "near": ["close to"],
    "completed": ["finished"], "complete": ["finish"], "film": ["movie"],
    "obtained": ["got"], "launched": ["started"], "launch": ["start"], "given": ["awarded"],
    "main": ["principal"], "famous": ["well known"], "resign": ["step down"],
}  # fmt: skip


NOUN_PLACE = re.compile(r"\b(?:the|an?|of|his|its) (?:[a-z]+ )?([a-z]+)(?=[,.;]| (?:of|in|is|was|and|for)\b)")


class Lexicon:
    """Verbs, first names, places and occupations as a sample of articles uses them."""

    def __init__(self, articles):
        after_to, self.occupations, first_names, self.places = Counter(), Counter(), Counter(), set()
        surnames = Counter()
        self.nationalities, self.small, self.capital, self.nouns = Counter(), Counter(), Counter(), Counter()
        for article in articles:
            for paragraph in article.paragraphs[:6]:
                after_to.update(re.findall(r"\bto ([a-z]{2,})\b", paragraph))
                self.nouns.update(NOUN_PLACE.findall(paragraph))
                self.small.update(re.findall(r"\b[a-z]{2,}\b", paragraph))
                self.capital.update(re.findall(r"(?<=[a-z,] )[A-Z][a-z]+\b", paragraph))
            if article.is_person:
                words = article.name.split()
                first_names[words[0]] += 1
                surnames[words[-1]] += len(words) in {2, 3}
                self.occupations[article.category] += 1
                self.nationalities.update(
                    re.findall(r"\b(?:an?|the) ([A-Z][a-z]+(?:ese|an|ish|ch|ic|ss|i)) ", article.opening)
                )
            elif article.category in {"city", "town", "country", "village", "state", "county", "river", "island",
                                      "province", "region", "municipality", "capital", "district"}:  # fmt: skip
                self.places.add(article.name)
        self.verbs = {verb for verb, count in after_to.items() if count >= 8}
        self.first_names = {name for name, count in first_names.items() if count >= 3 and name[0].isupper()} - {"The"}
        self.surnames = {name for name, count in surnames.items() if count and name[0].isupper()}
        self.occupations = {word for word, count in self.occupations.items() if count >= 5}
        self.nationalities = {word for word, count in self.nationalities.items() if count >= 4}

    def is_name(self, word):
        """Whether a word that begins a sentence would be capitalised elsewhere, too."""
        return not word.istitle() or self.capital[word] >= self.small[word.lower()]

    def ends_in_noun(self, phrase):
        """Whether a phrase can be what a question asks for: a name, a number, or a noun at its end."""
        last = phrase.split()[-1]
        return not last.islower() or (self.nouns[last] >= 5 and not last.endswith("ly"))

    def past_base(self, word):
        """The base of a verb in the past tense ("moved": move), or None."""
        if word in PAST:
            return PAST[word]
        if not word.endswith("ed") or len(word) < 5:
            return None
        stem = word[:-2]
        candidates = [word[:-1], stem]  # moved, walked
        if stem.endswith("i"):
            candidates = [stem[:-1] + "y"]  # carried
        elif len(stem) > 3 and stem[-1] == stem[-2]:
            candidates = [stem, stem[:-1]]  # passed, planned
        return next((base for base in candidates if base in self.verbs), None)

    def is_participle(self, word):
        return word in PARTICIPLE or self.past_base(word) is not None

    def is_person(self, name):
        words = name.split()
        if name in self.places or not all(word[0].isupper() or word in {"de", "von", "van", "of"} for word in words):
            return False
        if len(words) == 1:
            return name in self.surnames and name not in self.nationalities
        return words[0] in self.first_names and (
            len(words) > 2 or words[-1] in self.surnames or words[-1] not in self.places
        )
