"""Text that tokenizers find hard, made from a seed: words of many scripts, code, emoji, odd white space, marks, controls,
long runs, numbers, contractions and pieces of chat templates, cut and joined anywhere."""

import glob
import os
import pathlib
import random
import sysconfig

# fmt: off
SCRIPTS = {  # first and last letter
    "Arabic": "\u0620\u064a", "Chinese": "\u4e00\u9fa5", "Cyrillic": "\u0410\u044f", "Devanagari": "\u0904\u094d",
    "Greek": "\u0386\u03ce", "Hangul": "\uac00\ud7a3", "Hebrew": "\u05d0\u05ea", "Hiragana": "\u3041\u3096",
    "Katakana": "\u30a1\u30fa", "Latin": "\u00c0\u024f", "Thai": "\u0e01\u0e3a", "Vietnamese": "\u1ea0\u1ef9",
}
# fmt: on
WHITE = list(
    "\t\n\v\f\r \x1c\x1d\x1e\x1f\x85\xa0\u1680\u180e\u2000\u2003\u2009\u200a\u200b\u200c\u200d"
    "\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
MARK_RANGES = [
    "\u0300\u036f", "\u0591\u05bd", "\u064b\u065f", "\u093c\u093c", "\u1ab0\u1aff", "\u20d0\u20f0",
    "\u3099\u309a", "\ufe00\ufe0f", "\u1161\u1175", "\u11a7\u11c2",
]
MARKS = [chr(c) for low, high in MARK_RANGES for c in range(ord(low), ord(high) + 1)]
MARKED = list("aeouAKyz \u0131\u1100\uac00\u304b\u0915\u09c7\u2126\u212b\ufb1d\u0344\u00c5")
EMOJI = [chr(c) for c in range(0x1F300, 0x1FAFF)]
EMOJI += ["\u200d", "\ufe0f", "\U0001f3fb", "\U0001f1e9\U0001f1ea", "\u2764", "\u20e3"]
CONTRACTIONS = (
    "'s 'S '\u017f 't 'T 're 'Re 'RE 've 'VE 'm 'M 'll 'LL 'lL 'd 'D ' ''s \u2019s 'st 'ses 'K "
    "'\u212a 'de 'r 'v 'l ain't y'all'd've '\u0149 \ufb06"
).split()
TEMPLATE = (
    "<|im_start|> <|im_end|> <|endoftext|> <|begin_of_text|> <|eot_id|> <|im_ end|> <| |> <tool> "
    "<think> Zo\u00eb Zoe\u0308 word"
).split() + ["user\n", "  <|im_end|>  "]
RUNS = ["a", " ", "\n", "=", "-", "\t", "\r\n", "ab", "\u4e2d", "0", "\u0301", "\xa0", "\ufffd", "'"]
RUNS += ["\U0001f600", " a", "A "]
DIGITS = ["0123456789", "0123456789", "\u0660\u0661\u0662\u0669", "\u00bd\u00b2\u2167\u3007\u4e94"]
DIGITS += ["\uff11\uff12\U0001d7ce\U00010d40"]
CONTROLS = [chr(c) for c in range(32)] + list("\x7f\x80\x9f\xad\u200e\u202e\ufffd\uffff\U0010ffffa ")
PLANES = ["\0\x7f", "\x80\u07ff", "\u0800\ud7ff", "\ue000\uffff", "\U00010000\U0001ffff"]
PLANES += ["\U00020000\U0010ffff"]


class TextMaker:
    """Documents, one after the other; `prose` and `code` are texts to cut pieces from."""

    def __init__(self, seed, prose, code):
        self.random = random.Random(seed)
        self.prose = prose or code
        self.code = code
        self.words = {name: self._words(letters) for name, letters in SCRIPTS.items()}
        texts = code + prose
        self.english = sorted({w for text in texts for w in text.split() if w.isalpha()})[:60000]
        often = [self.english_words, self.slice_of_prose, self.script]
        rare = [self.slice_of_code, self.emoji, self.white, self.marks, self.any_character]
        rare += [self.run, self.numbers, self.contractions, self.template, self.controls]
        self.makers = 3 * often + rare

    def _pick(self, bounds):
        while 0xD800 <= (c := self.random.randint(ord(bounds[0]), ord(bounds[1]))) < 0xE000:
            pass
        return chr(c)

    def _words(self, letters):
        n = self.random.randint
        return ["".join(self._pick(letters) for _ in range(n(1, 6))) for _ in range(3000)]

    def _slice(self, texts):
        text = self.random.choice(texts)
        at = self.random.randrange(max(1, len(text)))
        return text[at : at + self.random.randint(1, 4000)]

    def _many(self, items, most):
        return "".join(self.random.choice(items) for _ in range(self.random.randint(1, most)))

    def _frequent_first(self, words, most, power):
        n = self.random.randint(1, most)
        return [words[int(len(words) * self.random.random() ** power)] for _ in range(n)]

    def english_words(self):
        return " ".join(self._frequent_first(self.english, 200, 3))

    def slice_of_prose(self):
        return self._slice(self.prose)

    def slice_of_code(self):
        return self._slice(self.code)

    def script(self):
        words = self.words[self.random.choice(sorted(self.words))]
        glue = self.random.choice(["", " ", " ", "\u3002", "\u060c ", ", "])
        return glue.join(self._frequent_first(words, 300, 2))

    def emoji(self):
        return self._many(EMOJI + [" ", "a", "!"], 60)

    def white(self):
        return self._many(WHITE + ["\r\n", "   ", "a", ".", "\ufffd"], 60)

    def marks(self):
        return self._many(MARKS + MARKED, 60)

    def any_character(self):
        n = self.random.randint(1, 200)
        return "".join(self._pick(self.random.choice(PLANES)) for _ in range(n))

    def run(self):
        return self.random.choice(RUNS) * int(10 ** self.random.uniform(0.3, 3.5))

    def numbers(self):
        digits = self.random.choice(DIGITS)
        numbers = [self._many(digits, 12) for _ in range(self.random.randint(1, 20))]
        return self.random.choice([" ", ",", ".", "a", "-"]).join(numbers)

    def contractions(self):
        before = ["I", " we", "x", " ", "\n", "\u00e9", "7"]
        return self._many([a + b for a in before for b in CONTRACTIONS], 30)

    def template(self):
        return self._many(TEMPLATE + [" ", "\n", "a", "_", "9", "\u00e9", "\u200d", "\u0301"], 12)

    def controls(self):
        return self._many(CONTROLS, 40)

    def document(self):
        glue = ["", "", " ", "\n", "\n\n"]
        n = self.random.randint(1, 12)
        parts = [self.random.choice(self.makers)() + self.random.choice(glue) for _ in range(n)]
        text = "".join(parts)
        at = self.random.randrange(max(1, len(text)))
        return text[at:] + text[:at]  # words and marks meet what they should not


def standard_library():
    """Code to cut pieces from: the sources of this Python's own modules."""
    folder = sysconfig.get_paths()["stdlib"]
    paths = sorted(glob.glob(os.path.join(folder, "*.py")))
    return [pathlib.Path(path).read_text(errors="replace") for path in paths]


def make_documents(seed, megabytes, prose):
    """Documents of that size together, some extreme ones first."""
    maker = TextMaker(seed, prose, standard_library())
    documents = ["", " ", "\n", "a", "\u0301", "a" * 100_000, " " * 100_000]
    documents += ["\u4e2d" * 30_000, "\u0301\u0323" * 20_000]
    size = sum(len(d.encode()) for d in documents)
    while size < megabytes * 1e6:
        documents.append(maker.document())
        size += len(documents[-1].encode())
    return documents
