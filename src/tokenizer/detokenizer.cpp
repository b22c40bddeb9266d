#include <utility>

#include "base/text.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

Detokenizer::Detokenizer(const Tokenizer& tokenizer, bool skip_special)
    : tokenizer_(&tokenizer), skip_special_(skip_special) {}

std::string Detokenizer::push(int64_t id) {
  if (!(skip_special_ && tokenizer_->is_special(id))) {
    pending_ += tokenizer_->token_bytes(id);
  }
  const size_t n_complete = complete_utf8_prefix(pending_);
  std::string text = replace_invalid_utf8(std::string_view(pending_).substr(0, n_complete));
  pending_.erase(0, n_complete);
  return text;
}

std::string Detokenizer::finish() {
  return replace_invalid_utf8(std::exchange(pending_, std::string()));
}

}  // namespace ssa
