// Chat templates: the source, a NUL, and the messages as JSON.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/json.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t nul = input.find('\0');
  try {
    const ssa::ChatTemplate chat_template{std::string(input.substr(0, nul))};
    const ssa::Json messages = nul == std::string_view::npos
                                   ? ssa::Json::parse(R"([{"role": "user", "content": "Hi"}])")
                                   : ssa::parse_json(input.substr(nul + 1), "messages");
    ssa::joined_text(chat_template.render(messages, {}));
  } catch (const ssa::Error&) {
    // what a broken template must end with
  }
  return 0;
}
