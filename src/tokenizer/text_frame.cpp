#include "tokenizer/text_frame.h"

#include "base/error.h"

namespace ssa {

TextFrame parse_text_frame(const std::string& format) {
  const size_t place = format.find("{}");
  if (place == std::string::npos || format.find("{}", place + 2) != std::string::npos) {
    throw UsageError("format '" + format + "': expected {} exactly once");
  }
  return {format.substr(0, place), format.substr(place + 2)};
}

std::vector<int64_t> encode_framed(const Tokenizer& tokenizer,
                                   const TextFrame& frame,
                                   const std::string& text) {
  const TextSpan spans[] = {{frame.before, false}, {text, true}, {frame.behind, false}};
  return tokenizer.encode(spans, {.add_special = false});
}

}  // namespace ssa
