#include "evaluation/needle_items.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "base/error.h"
#include "base/text.h"
#include "data/row_random.h"

namespace ssa {
namespace {

constexpr std::array kNameHeads = {"Vel",
                                   "Kar",
                                   "Dun",
                                   "Os",
                                   "Tam",
                                   "Bro",
                                   "Pel",
                                   "Mar",
                                   "Lin",
                                   "Quo",
                                   "Zar",
                                   "Fen",
                                   "Hal",
                                   "Ister",
                                   "Nor"};
constexpr std::array kNameTails = {
    "mora", "stein", "wick", "ovia", "holt", "gate", "by", "ford", "ault", "enna"};
constexpr size_t kTrainingHeads = 12;  // names that begin so are for training alone

/// How a fact is told and asked: {n} the name, {w} what is told of it, {v} the value.
struct FactForm {
  const char* fact;
  const char* cue;
};

constexpr FactForm kEvalForm = {
    "The access code for the {n} vault is {v}.",
    "What is the access code for the {n} vault? The access code for the {n} vault is"};
constexpr FactForm kEvalManyForm = {
    "One of the access codes for the {n} vault is {v}.",
    "What are all the access codes for the {n} vault? The access codes for the {n} vault are"};
constexpr std::array<FactForm, 4> kTrainingForms = {{
    {"The {w} of {n} is {v}.", "What is the {w} of {n}? The {w} of {n} is"},
    {"Note: {n} has {w} {v}.", "Recall that {n} has {w}"},
    {"{n}: {w} = {v};", "{n}: {w} ="},
    {"Everyone in {n} knows the {w}, {v}.", "Everyone in {n} knows the {w},"},
}};
constexpr FactForm kTrainingManyForm = {"A {w} of {n} is {v}.",
                                        "What is every {w} of {n}? Every {w} of {n}, in order:"};
constexpr std::array kTrainingWords = {"number",
                                       "phone line",
                                       "postal code",
                                       "serial mark",
                                       "record",
                                       "population",
                                       "bus line",
                                       "price"};

struct Fact {
  std::string text, cue, value;
  size_t begin, end;  // bytes of the text that say it
};

std::string fill_in(std::string text,
                    const std::string& name,
                    const std::string& word,
                    const std::string& value) {
  const std::pair<const char*, const std::string*> fields[] = {
      {"{n}", &name}, {"{w}", &word}, {"{v}", &value}};
  for (const auto& [mark, with] : fields) {
    for (size_t at = 0; (at = text.find(mark, at)) != std::string::npos; at += with->size()) {
      text.replace(at, 3, *with);
    }
  }
  return text;
}

/// Sentences with what stands behind them; long stretches without an end are cut at a blank.
std::vector<std::string> split_sentences(const std::string& text) {
  constexpr size_t kLongest = 400;
  std::vector<std::string> sentences;
  std::string sentence;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i] == '\0' ? '\n' : text[i];
    sentence.push_back(c);
    const bool blank = c == ' ' || c == '\n';
    const bool more_blank = i + 1 < text.size() && (text[i + 1] == ' ' || text[i + 1] == '\n');
    const char before = sentence.size() > 1 ? sentence[sentence.size() - 2] : ' ';
    const bool ends = c == '\n' || before == '.' || before == '!' || before == '?' ||
                      before == '\n' || sentence.size() > kLongest;
    if (blank && !more_blank && ends) {
      sentences.push_back(std::move(sentence));
      sentence.clear();
    }
  }
  std::erase_if(sentences, [](const std::string& s) {
    return s.find_first_not_of(" \n\t\r") == std::string::npos;
  });
  return sentences;
}

std::string random_value(RowRandom& random) {
  return std::to_string(10000 + random.below(90000));
}

std::vector<std::string> random_names(RowRandom& random, bool training, size_t n) {
  std::vector<std::string> names;
  for (size_t head = training ? 0 : kTrainingHeads;
       head < (training ? kTrainingHeads : kNameHeads.size());
       ++head) {
    for (const char* tail : kNameTails) {
      names.push_back(std::string(kNameHeads[head]) + tail);
    }
  }
  check(n <= names.size(), n, " facts need as many names, and there are ", names.size());
  for (size_t i = 0; i < n; ++i) {
    std::swap(names[i], names[i + random.below(names.size() - i)]);
  }
  names.resize(n);
  return names;
}

/// Lines of keys and values, as one fact that stands together.
Fact key_value_block(RowRandom& random, bool training, int64_t n) {
  // Keys of letters in training, of letters and digits in evaluation: none is in both.
  std::vector<std::string> keys, values;
  while (static_cast<int64_t>(keys.size()) < n) {
    const std::string key = random_names(random, training, 1)[0] + (training ? "" : "-") +
                            (training ? std::string(kNameTails[random.below(kNameTails.size())]) +
                                            kNameTails[random.below(kNameTails.size())]
                                      : std::to_string(100 + random.below(900)));
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      keys.push_back(key);
      values.push_back(random_value(random));
    }
  }
  const size_t asked = random.below(keys.size());
  std::string text;
  for (size_t i = 0; i < keys.size(); ++i) {
    text += keys[i] + ": " + values[i] + "\n";
  }
  const std::string line = keys[asked] + ": " + values[asked];
  const size_t begin = text.find(line);
  return {text, keys[asked] + ":", values[asked], begin, begin + line.size()};
}

Fact sentence_fact(RowRandom& random,
                   const NeedleOptions& options,
                   const std::string& name,
                   const std::string& value) {
  const bool many = options.kind == NeedleKind::kMultiValue;
  const FactForm form =
      options.training
          ? many ? kTrainingManyForm : kTrainingForms[random.below(kTrainingForms.size())]
      : many ? kEvalManyForm
             : kEvalForm;
  const std::string word = kTrainingWords[random.below(kTrainingWords.size())];
  const std::string text = fill_in(form.fact, name, word, value);
  return {text + " ", fill_in(form.cue, name, word, value), value, 0, text.size()};
}

std::vector<Fact> make_facts(RowRandom& random, const NeedleOptions& options) {
  if (options.kind == NeedleKind::kKeyValue) {
    return {key_value_block(random, options.training, options.n_facts)};
  }
  const auto n = static_cast<size_t>(options.kind == NeedleKind::kSingle ? 1 : options.n_facts);
  const bool one_name = options.kind == NeedleKind::kMultiValue;
  const auto names = random_names(random, options.training, one_name ? 1 : n);
  // All facts of one name are told with the same word: the same numbers are drawn for each.
  const uint64_t form_seed = random.next();
  std::vector<Fact> facts;
  for (size_t i = 0; i < n; ++i) {
    RowRandom form(one_name ? form_seed : random.next());
    facts.push_back(sentence_fact(form, options, names[one_name ? 0 : i], random_value(random)));
  }
  return facts;
}

/// Places between sentences, one a fact; the one asked for stands at the depth wanted.
std::vector<size_t> choose_places(RowRandom& random,
                                  size_t n_facts,
                                  size_t n_sentences,
                                  size_t asked,
                                  std::optional<double> depth) {
  std::vector<size_t> places;
  if (depth) {
    places.push_back(static_cast<size_t>(std::lround(*depth * static_cast<double>(n_sentences))));
  }
  while (places.size() < n_facts) {
    const size_t place = random.below(n_sentences + 1);
    if (std::find(places.begin(), places.end(), place) == places.end()) {
      places.push_back(place);
    }
  }
  std::swap(places[0], places[asked]);
  return places;
}

/// A text as it grows, and what was said of the facts wanted.
struct Document {
  std::string text, answer;
  Json evidence = Json::array();  // [0, first, behind] in characters

  void add(const Fact& fact, bool wanted) {
    if (wanted) {
      const auto characters =
          std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
      evidence.push_back({0,
                          characters + static_cast<int64_t>(fact.begin),
                          characters + static_cast<int64_t>(fact.end)});
      answer += (answer.empty() ? "" : ", ") + fact.value;
    }
    text += fact.text;
  }
};

}  // namespace

NeedleKind parse_needle_kind(const std::string& name) {
  if (name == "single") return NeedleKind::kSingle;
  if (name == "multi-key") return NeedleKind::kMultiKey;
  if (name == "multi-value") return NeedleKind::kMultiValue;
  throw UsageError("kind of needle " + name + " is not one of single, multi-key, multi-value");
}

NeedleMaker::NeedleMaker(const std::string& filler,
                         NeedleOptions options,
                         std::function<int64_t(const std::string&)> count_tokens)
    : options_(options),
      count_tokens_(std::move(count_tokens)),
      sentences_(split_sentences(replace_invalid_utf8(filler))) {
  check(!sentences_.empty(), "the filler text holds no sentence");
  for (const std::string& sentence : sentences_) {
    lengths_.push_back(std::max<int64_t>(1, count_tokens_(sentence)));
  }
}

std::vector<size_t> NeedleMaker::choose_filler(uint64_t start, int64_t room) const {
  std::vector<size_t> filler;
  size_t next = start;
  while (filler.size() < sentences_.size() && lengths_[next] <= room) {
    filler.push_back(next);
    room -= lengths_[next];
    next = (next + 1) % sentences_.size();
  }
  check(filler.size() < sentences_.size(),
        "the filler text is too short for documents of ",
        options_.length,
        " tokens");
  return filler;
}

Json NeedleMaker::item(int64_t number) const {
  RowRandom random(mix_seeds({options_.seed,
                              static_cast<uint64_t>(number),
                              options_.training ? 1U : 0U,
                              static_cast<uint64_t>(options_.kind)}));
  const std::vector<Fact> facts = make_facts(random, options_);
  int64_t room = options_.length;
  for (const Fact& fact : facts) {
    room -= count_tokens_(fact.text) + 1;
  }
  check(room > 0, "the facts alone need more than the ", options_.length, " tokens wanted");
  const auto filler = choose_filler(random.below(sentences_.size()), room);
  check(filler.size() >= facts.size(),
        "documents of ",
        options_.length,
        " tokens leave no room for text between ",
        facts.size(),
        " facts");
  const size_t asked = random.below(facts.size());
  const auto places = choose_places(random, facts.size(), filler.size(), asked, options_.depth);
  Document document;
  for (size_t place = 0; place <= filler.size(); ++place) {
    const auto here = std::find(places.begin(), places.end(), place);
    if (here != places.end()) {
      const auto i = static_cast<size_t>(here - places.begin());
      document.add(facts[i], i == asked || options_.kind == NeedleKind::kMultiValue);
    }
    if (place < filler.size()) {
      document.text += sentences_[filler[place]];
    }
  }
  return {{"id", std::to_string(number + 1)},
          {"documents", {document.text}},
          {"question", facts[asked].cue},
          {"answers", {document.answer}},
          {"answer", document.answer},
          {"evidence", document.evidence},
          {"depth", static_cast<double>(places[asked]) / static_cast<double>(filler.size())}};
}

}  // namespace ssa
