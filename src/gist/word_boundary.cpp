#include "gist/word_boundary.h"

namespace ssa {

bool begins_word(std::string_view token_text) {
  constexpr std::string_view kMarks = " \t\n\r.,;:!?-()[]{}\"'";
  constexpr std::string_view kEmDash = "\xE2\x80\x94";
  return token_text.empty() || kMarks.find(token_text.front()) != std::string_view::npos ||
         token_text.starts_with(kEmDash);
}

WordBoundaries find_word_boundaries(int64_t n_ids,
                                    const std::function<std::string(int64_t id)>& token_text) {
  WordBoundaries boundaries(static_cast<size_t>(n_ids));
  for (int64_t id = 0; id < n_ids; ++id) {
    boundaries[static_cast<size_t>(id)] = begins_word(token_text(id));
  }
  return boundaries;
}

}  // namespace ssa
