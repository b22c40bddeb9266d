#include "evaluation/answer_metrics.h"

#include <algorithm>
#include <map>
#include <sstream>
#include <vector>

#include "base/text.h"

namespace ssa {
namespace {

/// By ASCII alone, whatever the locale.
bool is_ascii_punctuation(char c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

std::vector<std::string> answer_words(std::string_view text) {
  std::string plain;
  for (const char c : text) {
    if (!is_ascii_punctuation(c)) {
      plain.push_back(c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c);
    }
  }
  std::vector<std::string> words;
  std::istringstream stream(plain);
  for (std::string word; stream >> word;) {
    if (word != "a" && word != "an" && word != "the") {
      words.push_back(word);
    }
  }
  return words;
}

double word_f1(const std::vector<std::string>& answer, const std::vector<std::string>& gold) {
  if (answer.empty() || gold.empty()) {
    return answer.empty() == gold.empty() ? 1.0 : 0.0;
  }
  std::map<std::string, int64_t> left;
  for (const std::string& word : gold) {
    ++left[word];
  }
  int64_t common = 0;
  for (const std::string& word : answer) {
    common += left[word]-- > 0 ? 1 : 0;
  }
  return 2.0 * static_cast<double>(common) / static_cast<double>(answer.size() + gold.size());
}

}  // namespace

std::string normalize_answer(std::string_view text) {
  return join(answer_words(text), " ");
}

AnswerScores score_answer(std::string_view answer, std::span<const std::string> gold) {
  const std::vector<std::string> words = answer_words(answer);
  AnswerScores best;
  for (const std::string& one : gold) {
    const std::vector<std::string> wanted = answer_words(one);
    best.exact = best.exact || words == wanted;
    best.f1 = std::max(best.f1, word_f1(words, wanted));
    best.contains = best.contains || (wanted.empty() ? words.empty()
                                                     : join(words, " ").find(join(wanted, " ")) !=
                                                           std::string::npos);
  }
  return best;
}

}  // namespace ssa
