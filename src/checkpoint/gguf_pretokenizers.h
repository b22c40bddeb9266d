// The tokenizer families that GGUF knows by a name ("smollm") where tokenizer.json spells out the
// pipeline.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace ssa {

/// One pipeline, as the family's original tokenizer.json has it.
struct TokenizerFamily {
  std::vector<std::string> names;  // tokenizer.ggml.pre; the first is the one we write
  Json normalizer = nullptr;
  Json pre_tokenizer = nullptr;
  Json post_processor = nullptr;  // where no BOS is added
  Json decoder = nullptr;
  bool ignore_merges = false;
  bool add_bos = false;  // where the file does not say
};

/// The family called `pre`. Throws Error listing the known names.
const TokenizerFamily& find_tokenizer_family(std::string_view pre);

/// The family whose pipeline tokenizer.json's content has. Throws Error listing the known families.
const TokenizerFamily& match_tokenizer_family(const Json& tokenizer_json);

}  // namespace ssa
