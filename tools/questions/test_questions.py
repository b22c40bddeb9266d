"""Sentences, and the questions that must and must not come of them: python3 -m unittest discover -s tools/questions -t
tools"""

import random
import unittest

from questions.clauses import parse
from questions.forms import Asker
from questions.lexicon import Lexicon
from questions.openings import ask_opening
from questions.text import Article, read_article, split_sentences

FILLER = "It is good to found, to move, to work, to cover, to score, to build, to hold and to earn a city. "


def make_article(title="Ansford", opening="Ansford is a town in Norland.", is_person=False, category="town"):
    article = Article(title, [opening + " " + FILLER * 8])
    article.opening, article.is_person, article.category = opening, is_person, category
    return article


def ask(sentence, article):
    lexicon = Lexicon([article])
    clause = parse(sentence, article, True, lexicon)
    return [] if clause is None else [(q, a) for _, q, a in Asker(lexicon, random.Random(1)).ask(clause, article)]


class AskTest(unittest.TestCase):
    def expect(self, sentence, words, answer, article=None):
        found = ask(sentence, article or make_article())
        self.assertTrue([q for q, a in found if a == answer and all(word in q for word in words)], (sentence, found))

    def test_asks_when_where_who_how_many(self):
        self.expect("The abbey was founded in 1920 by Peter Hale.", ["was the abbey founded"], "1920")
        self.expect("The abbey was founded by Peter Hale.", ["abbey"], "Peter Hale")
        self.expect("In 1931, the company moved to the old mill.", ["did the company move to the old mill"], "1931")
        self.expect("The company built 42 bridges in Norland.", ["How many bridges did the company build"], "42")
        self.expect("The strike was held because of low wages.", ["Why was the strike held"], "low wages")

    def test_pronouns_stand_for_the_title(self):
        person = make_article("Ada Vell", "Ada Vell (born 3 May 1901) is a Norlandish poet.", True, "poet")
        self.expect("She moved to the capital in 1925.", ["did Ada Vell move"], "1925", person)
        self.assertEqual(ask("It moved to the capital in 1925.", person), [])
        self.assertEqual(ask("They moved to the capital in 1925.", person), [])

    def test_leaves_out_what_it_cannot_take_apart(self):
        for sentence in ("The theory proposed by Hale in 1920 was soon forgotten by everyone.",
                         "Which of these was founded in 1920 is not known to anybody.",
                         "That he moved in 1920 was only learnt from letters of his."):  # fmt: skip
            self.assertEqual(ask(sentence, make_article()), [], sentence)

    def test_openings(self):
        person = make_article("Ada Vell", "Ada Vell (3 May 1901 – 7 June 1980) was a Norlandish poet.", True, "poet")
        found = {kind: answer for kind, _, answer in ask_opening(person, Lexicon([person]), random.Random(1))}
        self.assertEqual((found["born"], found["died"]), ("3 May 1901", "7 June 1980"))


class TextTest(unittest.TestCase):
    def test_abbreviations_end_no_sentence(self):
        self.assertEqual(
            split_sentences("Dr. J. Hale came. He saw St. Anne's."), ["Dr. J. Hale came.", "He saw St. Anne's."]
        )

    def test_paragraphs_have_the_wanted_length(self):
        line = "This sentence has exactly ten words in it, I think. "
        article = read_article("Title\n\n" + "\n".join(["Heading.", line * 9, "Heading.", line * 3, line * 50]), 10)
        sizes = [len(paragraph.split()) for paragraph in article.paragraphs]
        self.assertTrue(sizes and all(70 <= size <= 200 for size in sizes), sizes)


if __name__ == "__main__":
    unittest.main()
