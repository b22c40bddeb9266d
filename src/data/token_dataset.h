// Tokenised text on disk: a folder that `ssa data build` writes and training maps into memory.
//
//   meta.json    what the rest is (DatasetMeta)
//   tokens.bin   the ids of all fields, one behind the other; uint16 if the vocabulary allows, else
//                uint32
//   fields.bin   uint64 [n_fields + 1]: where each field begins in tokens.bin
//   entries.bin  uint64 [n_entries + 1]: each entry's first field            (kind qa alone)
//   gold.bin     uint8 [n_fields]: 1 for a document that holds the answer    (kind qa alone)
//
// An entry is a document, which is one field, or a question-answer row: its documents, the
// question, the answer. Numbers are little-endian.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <vector>

#include "base/file.h"
#include "data/dataset_meta.h"

namespace ssa {

/// What a question-answer row says.
struct QaRow {
  std::vector<std::vector<int64_t>> documents;
  std::vector<bool> gold;  // [documents.size()]: known to hold the answer
  std::vector<int64_t> question;
  std::vector<int64_t> answer;
};

/// How many tokens a question-answer row's fields have.
struct QaLengths {
  std::vector<uint64_t> documents;
  std::vector<bool> gold;  // [documents.size()]
  uint64_t question = 0;
  uint64_t answer = 0;
};

/// A dataset mapped read-only. Move-only; const methods are safe from many threads. Opening reads
/// the index once, and no tokens.
class TokenDataset {
 public:
  /// Throws Error naming the file and what is wrong with it: a key or file missing, a size that
  /// contradicts meta.json, offsets that do not rise.
  explicit TokenDataset(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const DatasetMeta& meta() const { return meta_; }
  uint64_t size() const { return meta_.n_entries; }

  /// Tokens of all fields of an entry. Entries are in [0, size()), which is not checked.
  uint64_t n_tokens(uint64_t entry) const;
  /// Tokens [begin, end) of an entry, its fields one behind the other; end <= n_tokens(entry).
  /// Throws Error naming the file for an id outside the vocabulary.
  std::vector<int64_t> tokens(uint64_t entry, uint64_t begin, uint64_t end) const;
  /// An entry of kind qa. Throws as tokens().
  QaRow qa_row(uint64_t entry) const;
  QaLengths qa_lengths(uint64_t entry) const;

 private:
  void map_qa_files();
  void check_index() const;
  uint64_t first_field(uint64_t entry) const;
  /// Where the entry begins in tokens.bin; entry <= size().
  uint64_t first_token(uint64_t entry) const;
  std::vector<int64_t> read(uint64_t begin, uint64_t end) const;

  std::filesystem::path folder_;
  DatasetMeta meta_;
  MappedFile tokens_file_, fields_file_;
  std::optional<MappedFile> entries_file_, gold_file_;
  std::span<const uint64_t> fields_, entries_;
  std::span<const uint8_t> gold_;
};

}  // namespace ssa
