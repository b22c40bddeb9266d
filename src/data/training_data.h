// Rows of a training run, drawn from datasets by number.
//
// A row is a pure function of the options and its number: the sampler's position is that one
// number, every process computes any row by itself, and a resumed run goes on where it stopped.
//
//   row number --SourceSchedule--> source, draw        sources take turns by weight
//   draw       --Permutation-----> row of the plan     every pass over a source in another order
//   plan's row --RowPlan---------> parts of documents  windows of long ones, short ones packed
//   part       --lay_sequence----> TrainingSequence    prefix gisted, suffix raw, targets
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/training_row.h"
#include "gist/gist_settings.h"
#include "gist/word_boundary.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// A dataset's folder, and how often rows come from it relative to the other sources.
struct DataSource {
  std::filesystem::path path;
  double weight = 1;
};

/// A chunk setting, and how often rows have it relative to the others.
struct ChunkChoice {
  ChunkSizes chunk;
  double weight = 1;
};

/// Which tokens are targets: every raw one; those behind the prefix; the answer of a
/// question-answer row (in rows of text: those behind the prefix).
enum class LossOn { kAll, kSuffix, kAnswer };
/// "all", "suffix", "answer"; throws Error naming them.
LossOn parse_loss_on(const std::string& name);

/// What separates the documents of a row: each is a sequence of its own, with its own prefix and
/// suffix, and documents longer than a row are cut into whole rows from their start; or all follow
/// each other in one sequence, EOS between them (rows of text alone).
enum class Boundaries { kSeparate, kJoin };
/// "separate", "join"; throws Error naming them.
Boundaries parse_boundaries(const std::string& name);

struct DataOptions {
  std::vector<DataSource> sources = {};
  uint64_t seed = 0;
  int64_t seq_len = 2048;  // raw tokens a row, at most
  Boundaries boundaries = Boundaries::kSeparate;
  /// Text: rows are windows that documents fill alone; what is left of a document behind them is
  /// not used. Rows then have few shapes, which trains faster.
  bool whole_rows = false;
  bool add_bos = false;  // in front of every sequence
  /// Behind every document and answer, where the dataset does not hold it already.
  bool add_eos = true;

  bool gists = true;  // false: raw tokens alone, with the same prefix, suffix and targets
  std::vector<ChunkChoice> chunks = {{{8}}};  // drawn for each row
  bool word_aware = true;
  int64_t sink = 3;
  /// Raw tokens behind the prefix of a text, drawn evenly for each sequence; fewer where the prefix
  /// would get no whole chunk. Of a document with fewer than suffix_min + sink + one chunk all is
  /// suffix, and nothing gisted. (In question-answer rows the suffix is question and answer.)
  int64_t suffix_min = 64;
  int64_t suffix_max = 512;
  LossOn loss_on = LossOn::kAll;
};

/// What rows need to know of the model that will read them.
struct DataVocabulary {
  std::string tokenizer;          // tokenizer_fingerprint(); empty: datasets are not checked
  std::vector<int64_t> gist_ids;  // <gist>, <Gist>, <MGist>; may be empty without gists
  WordBoundaries boundaries;      // may be empty unless word_aware
  std::optional<int64_t> bos_id, eos_id;
};

/// From a model's tokenizer; the ids are those that its config names.
DataVocabulary make_data_vocabulary(const Tokenizer& tokenizer,
                                    std::vector<int64_t> gist_ids,
                                    std::optional<int64_t> bos_id,
                                    std::optional<int64_t> eos_id);

/// What a source comes to under the options.
struct SourceSummary {
  std::filesystem::path path;
  uint64_t n_rows = 0;              // in one pass
  uint64_t n_tokens = 0;            // raw, in one pass; without BOS and EOS that are added
  double share = 0;                 // of all rows
  uint64_t n_qa_rows_cut = 0;       // question-answer rows that lose documents to fit seq_len
  uint64_t n_documents_lost = 0;    // by these
  uint64_t n_qa_rows_left_out = 0;  // whose question and answer alone do not fit
};

/// Const methods are safe from many threads. Maps the datasets; 16 bytes of memory a row.
class TrainingData {
 public:
  /// Throws Error in one line naming the option or dataset and the value that does not fit: no
  /// sources, a seq_len that leaves no room for suffix and chunk, a dataset made with another
  /// tokenizer, weights that are not positive, ids that the vocabulary lacks.
  TrainingData(DataOptions options, DataVocabulary vocabulary);
  ~TrainingData();
  TrainingData(TrainingData&&) noexcept;
  TrainingData& operator=(TrainingData&&) noexcept;

  /// Row `index` of the endless stream. Sequences are never empty; a row may be without targets
  /// (a row of one short document). Throws Error where a dataset's file is damaged.
  TrainingRow row(uint64_t index) const;

  /// Rows that all sources hold together. With one source a pass over these sees everything once;
  /// with several see passes().
  uint64_t rows_per_epoch() const;
  /// How often source `source` has been gone through after the first `n_rows` rows.
  double passes(size_t source, uint64_t n_rows) const;
  const std::vector<SourceSummary>& sources() const;
  /// What the user should be told: question-answer rows that lose documents or are left out. One
  /// line each.
  std::vector<std::string> warnings() const;

  const DataOptions& options() const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace ssa
