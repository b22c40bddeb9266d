// Which chunks or blocks an answer opened: for --show and --trace.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "engine/block_observer.h"
#include "engine/chunked_attention.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// Counts level-0 chunks as queries unfold them, or blocks as they read them; keys attended alone
/// unless the chunks are wanted.
class UnfoldingRecord : public SelectionObserver, public BlockObserver {
 public:
  explicit UnfoldingRecord(bool wants_chunks = false) : wants_chunks_(wants_chunks) {}

  bool wants_kept() const override { return wants_chunks_; }
  void on_selection(int64_t layer,
                    int64_t index,
                    int64_t kv_head,
                    const KeptGists& kept,
                    int64_t n_attended) override;
  void on_blocks(int64_t layer,
                 int64_t index,
                 int64_t kv_head,
                 std::span<const int64_t> blocks,
                 int64_t n_attended) override;
  /// Starts anew; queries before index `first` of the sequence, which read and do not answer, are
  /// left out.
  void clear(int64_t first);

  /// Choices made: one a query, layer and key/value head.
  int64_t n_selections() const { return n_selections_; }
  /// Keys attended, the mean over all choices.
  int64_t mean_attended() const { return n_selections_ > 0 ? n_attended_ / n_selections_ : 0; }

  struct Opened {
    int64_t times = 0;
    std::set<int64_t> layers;
  };
  /// Level-0 chunks, or blocks, by ordinal; those never opened are absent.
  const std::map<int64_t, Opened>& chunks() const { return chunks_; }

 private:
  void count(int64_t layer, int64_t index, std::span<const int64_t> chunks, int64_t n_attended);

  bool wants_chunks_;
  int64_t first_ = 0;
  std::map<int64_t, Opened> chunks_;
  int64_t n_selections_ = 0, n_attended_ = 0;
};

/// What a record's ordinals stand for.
struct ShownChunks {
  const char* word = "chunk";  // or "block"
  std::vector<int64_t> ids;    // tokens of the sequence, gists included
  std::vector<Range> ranges;   // of each chunk, indices of ids
};
ShownChunks chunks_of(const GistLayout& layout);
/// Blocks that tile the whole sequence; the last may be short.
ShownChunks blocks_of(std::vector<int64_t> ids, int64_t block_size);

/// Their text with a legend. By how often it was opened each is coloured (ANSI colours), or without
/// colours marked: "[12x text]".
std::string show_unfolding(const UnfoldingRecord& record,
                           const ShownChunks& shown,
                           const Tokenizer& tokenizer,
                           bool colours);

/// The n passages that stand out: opened more often than the chunks around them, the most
/// outstanding first, each with a little of what surrounds it. A line a passage: "[1] opened 717
/// times, tokens 4701-4733: text".
std::string list_passages(const UnfoldingRecord& record,
                          const ShownChunks& shown,
                          const Tokenizer& tokenizer,
                          int64_t n);

/// {"chunks": [{"chunk", "begin", "end", "text", "times", "layers"}, ...], "selections",
/// "mean_attended"}, or "blocks" and "block"; begin and end are indices into the sequence with its
/// gists.
std::string trace_unfolding(const UnfoldingRecord& record,
                            const ShownChunks& shown,
                            const Tokenizer& tokenizer);

}  // namespace ssa
