// The "model" part of tokenizer.json: a byte-level BPE vocabulary with its merges.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/json.h"
#include "tokenizer/bpe_merge.h"
#include "tokenizer/bpe_tables.h"

namespace ssa {

/// Memory that encode_word keeps between calls; one for each thread.
struct BpeScratch {
  std::vector<int32_t> symbols;
  MergeScratch merge;
};

/// Immutable: every const method is safe from many threads.
class BpeModel {
 public:
  /// Throws Error naming what is broken or not supported.
  explicit BpeModel(const Json& model);

  /// Appends the ids of one word, given as the bytes of the text.
  void encode_word(std::string_view bytes, BpeScratch& scratch, std::vector<int64_t>& ids) const;

  /// `token` as the vocabulary writes it ("Ġthe").
  std::optional<int64_t> token_to_id(std::string_view token) const;
  /// Every token at its id, as the vocabulary writes it; ids without a token hold nothing.
  const std::vector<std::optional<std::string>>& tokens() const { return tokens_; }
  /// Number of tokens (not: largest id + 1).
  int64_t n_tokens() const { return n_tokens_; }

 private:
  void add_token(const std::string& token, int64_t id, int64_t n_all);
  void read_vocabulary(const Json& vocab);
  void read_merges(const Json& merges);
  void add_merge(const std::string& left, const std::string& right, uint32_t rank);
  void read_unknown(const Json& model);
  void find_whole_tokens();
  void split_into_bytes(std::string_view bytes, std::vector<int32_t>& symbols) const;
  int32_t id_of(const std::string& token) const;

  std::vector<std::optional<std::string>> tokens_;  // by id
  int64_t n_tokens_ = 0;
  TokenTable bytes_to_id_;                                 // tokens within the byte alphabet
  std::unordered_map<std::string, int32_t> other_tokens_;  // tokens outside it: no text gives them
  PairTable pairs_;
  bool ignore_merges_ = false;
  std::vector<bool> is_whole_;  // by id: a word that equals the token is encoded as it
  std::optional<int32_t>
      unknown_;  // stands for bytes that the vocabulary lacks; without it they are left out
  bool fuse_unknown_ = false;  // one for a run of such bytes
};

}  // namespace ssa
