// meta.json of a dataset.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ssa {

enum class DatasetKind { kText, kQa };
/// "text", "qa".
const char* dataset_kind_name(DatasetKind kind);
/// The kind of that name; throws Error naming those there are.
DatasetKind parse_dataset_kind(const std::string& name);

struct DatasetMeta {
  DatasetKind kind = DatasetKind::kText;
  std::string tokenizer;   // tokenizer_fingerprint()
  int64_t vocab_size = 0;  // ids are below it
  uint64_t n_entries = 0;
  uint64_t n_fields = 0;
  uint64_t n_tokens = 0;
  /// The id that stands behind every document, or every answer; absent: nothing does.
  std::optional<int64_t> eos_id = {};
  /// Kind qa: a piece in front of every row's documents (a chat template's header); may be empty.
  std::vector<int64_t> header = {};
  std::vector<std::string> sources = {};  // names of the files it was made from

  /// Bytes of an id in tokens.bin: 2 if the vocabulary allows, else 4.
  uint64_t token_bytes() const { return vocab_size <= 65536 ? 2 : 4; }
};

Json to_json(const DatasetMeta& meta);

/// Throws Error naming the file, and the key with what is wrong with it.
DatasetMeta read_dataset_meta(const std::filesystem::path& file);

}  // namespace ssa
