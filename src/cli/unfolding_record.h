// Which chunks an answer opened: for --show and --trace.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>

#include "engine/chunked_attention.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// Counts level-0 chunks as queries unfold them; keys attended alone unless the chunks are wanted.
class UnfoldingRecord : public SelectionObserver {
 public:
  explicit UnfoldingRecord(bool wants_chunks = false) : wants_chunks_(wants_chunks) {}

  bool wants_kept() const override { return wants_chunks_; }
  void on_selection(int64_t layer,
                    int64_t index,
                    int64_t kv_head,
                    const KeptGists& kept,
                    int64_t n_attended) override;
  void clear();

  /// Choices made: one a query, layer and key/value head.
  int64_t n_selections() const { return n_selections_; }
  /// Keys attended, the mean over all choices.
  int64_t mean_attended() const { return n_selections_ > 0 ? n_attended_ / n_selections_ : 0; }

  struct Opened {
    int64_t times = 0;
    std::set<int64_t> layers;
  };
  /// Level-0 chunks by ordinal; those never opened are absent.
  const std::map<int64_t, Opened>& chunks() const { return chunks_; }

 private:
  bool wants_chunks_;
  std::map<int64_t, Opened> chunks_;
  int64_t n_selections_ = 0, n_attended_ = 0;
};

/// The prefix as text, each chunk coloured by how often it was opened, with a legend; ANSI colours.
std::string show_unfolding(const UnfoldingRecord& record,
                           const GistLayout& layout,
                           const Tokenizer& tokenizer);

/// {"chunks": [{"chunk", "begin", "end", "text", "times", "layers"}, ...], "selections",
/// "mean_attended"}; begin and end are indices into the sequence with its gists.
std::string trace_unfolding(const UnfoldingRecord& record,
                            const GistLayout& layout,
                            const Tokenizer& tokenizer);

}  // namespace ssa
