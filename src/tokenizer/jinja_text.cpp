#include "tokenizer/jinja_text.h"

#include <algorithm>

#include "base/error.h"

namespace ssa {

bool JinjaText::has_input() const {
  return std::any_of(runs_.begin(), runs_.end(), [](const Run& run) { return run.is_input; });
}

void JinjaText::append(std::string_view bytes, bool is_input) {
  if (bytes.empty()) {
    return;
  }
  check(bytes.size() <= kMaxBytes - bytes_.size(), "a text is longer than ", kMaxBytes, " bytes");
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().is_input == is_input) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), is_input});
  }
}

void JinjaText::append(const JinjaText& text, size_t begin, size_t end) {
  for (auto run = text.run_at(begin); begin < end; ++run) {
    const size_t piece_end = std::min(run->end, end);
    append(std::string_view(text.bytes_).substr(begin, piece_end - begin), run->is_input);
    begin = piece_end;
  }
}

JinjaText JinjaText::slice(size_t begin, size_t end) const {
  JinjaText piece;
  piece.append(*this, begin, end);
  return piece;
}

std::vector<TextSpan> JinjaText::spans() const {
  std::vector<TextSpan> spans;
  size_t begin = 0;
  for (const Run& run : runs_) {
    spans.push_back({bytes_.substr(begin, run.end - begin), run.is_input});
    begin = run.end;
  }
  return spans;
}

std::vector<JinjaText::Run>::const_iterator JinjaText::run_at(size_t offset) const {
  return std::upper_bound(runs_.begin(), runs_.end(), offset, [](size_t value, const Run& run) {
    return value < run.end;
  });
}

}  // namespace ssa
