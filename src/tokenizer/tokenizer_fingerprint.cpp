#include "tokenizer/tokenizer_fingerprint.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <string_view>

#include "base/checksum.h"

namespace ssa {
namespace {

constexpr std::array<std::string_view, 8> kAddedTokens = {
    "<gist>", "<Gist>", "<MGist>", "<link1>", "<link2>", "<link3>", "<link4>", "<link5>"};

// Numbers, contractions, runs of white space, scripts without spaces, a combining mark: where
// pre-tokenizers and normal forms differ.
constexpr std::string_view kProbe =
    "It's 1234567 of 3.50; DON'T  stop\t\n\n  caf\u00e9 cafe\u0301 \u6f22\u5b57\u304b\u306a "
    "\u0417\u0434\u0440\u0430\u0432\u0441\u0442\u0432\u0443\u0439 \U0001F600 x==y!=z  ";

}  // namespace

int64_t n_text_tokens(const Tokenizer& tokenizer) {
  int64_t n = tokenizer.size();
  while (n > 0 &&
         std::find(kAddedTokens.begin(), kAddedTokens.end(), tokenizer.token_bytes(n - 1)) !=
             kAddedTokens.end()) {
    --n;
  }
  return n;
}

std::string tokenizer_fingerprint(const Tokenizer& tokenizer) {
  std::string facts;
  for (int64_t id = 0; id < n_text_tokens(tokenizer); ++id) {
    const std::string bytes = tokenizer.token_bytes(id);
    facts += std::to_string(bytes.size()) + ":" + bytes;
  }
  for (const int64_t id :
       tokenizer.encode(kProbe, EncodeOptions{.add_special = false, .parse_special = false})) {
    facts += " " + std::to_string(id);
  }
  char digits[17];
  std::snprintf(digits,
                sizeof digits,
                "%016llx",
                static_cast<unsigned long long>(checksum(std::as_bytes(std::span(facts)))));
  return digits;
}

}  // namespace ssa
