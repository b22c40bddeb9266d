// A tokenizer as GGUF metadata, to and from tokenizer.json.
#pragma once

#include <optional>
#include <string>

#include "base/json.h"
#include "checkpoint/gguf_file.h"
#include "checkpoint/gguf_header.h"

namespace ssa {

/// tokenizer.json's content, equivalent to what the family's original file has: byte-level BPE
/// only. Null if the file holds no tokenizer. Throws Error "FILE: ..." naming the key or token that
/// is broken, or the value that is not supported and those that are.
Json read_gguf_tokenizer(const GgufFile& file);

/// tokenizer_config.json's content: special tokens by name, chat_template, model_max_length. Null
/// without a tokenizer.
Json read_gguf_tokenizer_config(const GgufFile& file);

/// What is written; the parts as a Checkpoint gives them.
struct TokenizerParts {
  Json tokenizer_json = nullptr;
  Json tokenizer_config = nullptr;
  std::optional<std::string> chat_template = std::nullopt;
  std::optional<int64_t> bos_token_id = std::nullopt;  // where tokenizer_config names none
  std::optional<int64_t> eos_token_id = std::nullopt;
};

/// Adds the tokenizer's keys; ids up to `vocab_size` that no token has are filled with unused ones,
/// as llama.cpp wants one for each row of the embedding. Without a tokenizer says so. Throws Error
/// for what GGUF cannot express.
void write_gguf_tokenizer(const TokenizerParts& parts, int64_t vocab_size, GgufHeader& header);

}  // namespace ssa
