// tokenizer.json up to the first NUL byte, and behind it a text to encode with it.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "base/text.h"
#include "tokenizer/tokenizer.h"

namespace {

void check_that(bool ok) {
  if (!ok) {
    __builtin_trap();
  }
}

void encode_and_decode(const ssa::Tokenizer& tokenizer, const std::string& text) {
  for (const bool parse_special : {false, true}) {
    const auto ids = tokenizer.encode(text, {.parse_special = parse_special});
    check_that(ssa::is_valid_utf8(tokenizer.decode(ids)));
    ssa::Detokenizer detokenizer(tokenizer, false);
    std::string streamed;
    for (const int64_t id : ids) {
      streamed += detokenizer.push(id);
    }
    check_that(streamed + detokenizer.finish() == tokenizer.decode(ids));
  }
  const ssa::TextSpan spans[] = {
      {text.substr(0, ssa::complete_utf8_prefix(text.substr(0, 8))), true}, {"<s>", false}};
  tokenizer.encode(spans);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\0');
  try {
    const auto tokenizer =
        ssa::Tokenizer::from_json(ssa::parse_json(input.substr(0, end), "tokenizer"));
    if (end != std::string_view::npos) {
      encode_and_decode(tokenizer, ssa::replace_invalid_utf8(input.substr(end + 1)));
    }
  } catch (const ssa::Error&) {
    // a broken file, or a pattern that takes too long
  }
  return 0;
}
