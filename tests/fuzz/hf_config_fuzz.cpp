// Any text as config.json, with or without generation_config.json behind a zero byte: refused with
// an Error, or read, and then written anew and read again with the same meaning.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "checkpoint/expected_tensors.h"
#include "checkpoint/model_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const size_t cut = text.find('\0');
  ssa::ModelConfig config;
  try {
    const ssa::Json generation =
        cut == std::string_view::npos ? ssa::Json() : ssa::parse_json(text.substr(cut + 1), "fuzz");
    config = ssa::parse_hf_config(ssa::parse_json(text.substr(0, cut), "fuzz"), generation);
  } catch (const ssa::Error&) {
    return 0;
  }
  config.raw = nullptr;
  const ssa::ModelConfig again = ssa::parse_hf_config(ssa::to_hf_config(config), nullptr);
  if (again.head_dim != config.head_dim || again.rope.theta != config.rope.theta ||
      ssa::expected_tensors(again).size() != ssa::expected_tensors(config).size()) {
    std::abort();
  }
  return 0;
}
