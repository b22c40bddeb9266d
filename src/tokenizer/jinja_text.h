// The strings of the template engine: UTF-8 that remembers which of its bytes came from the
// messages.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/text.h"
#include "tokenizer/text_span.h"

namespace ssa {

/// Well-formed UTF-8 with a mark on every character: written by the template, or input. Grows at
/// its end only. Not longer than 64 MiB: appending more throws Error.
class JinjaText {
 public:
  static constexpr size_t kMaxBytes = size_t{64} << 20;

  JinjaText() = default;
  explicit JinjaText(std::string_view bytes, bool is_input = false) { append(bytes, is_input); }

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  bool has_input() const;

  void append(std::string_view bytes, bool is_input);
  void append(const JinjaText& text) { append(text, 0, text.size()); }
  /// Appends the bytes [begin, end) of `text` with their marks; `text` must be another object.
  void append(const JinjaText& text, size_t begin, size_t end);
  /// The bytes [begin, end), which must lie on character boundaries.
  JinjaText slice(size_t begin, size_t end) const;

  /// Calls visit(character, bytes, is_input) for every character: char32_t, std::string_view, bool.
  template <class Visit>
  void for_each_character(Visit visit) const;

  /// Maximal pieces of one mark each, none of them empty.
  std::vector<TextSpan> spans() const;

 private:
  struct Run {
    size_t end;  // the run reaches from the end of the run before it to here, exclusive
    bool is_input;
  };

  std::vector<Run>::const_iterator run_at(size_t offset) const;

  std::string bytes_;
  std::vector<Run> runs_;  // neighbours differ in their mark
};

template <class Visit>
void JinjaText::for_each_character(Visit visit) const {
  size_t i = 0;
  for (const Run& run : runs_) {
    while (i < run.end) {
      const size_t begin = i;
      const char32_t character = next_code_point(bytes_, i);
      visit(character, std::string_view(bytes_).substr(begin, i - begin), run.is_input);
    }
  }
}

}  // namespace ssa
