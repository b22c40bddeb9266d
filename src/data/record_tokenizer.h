// From a record of text or JSON to the ids of a dataset's entry.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/dataset_builder.h"
#include "data/input_records.h"
#include "data/token_dataset.h"
#include "tokenizer/text_frame.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// An entry to be: of the kind that is built.
struct TokenizedRecord {
  std::vector<int64_t> document;  // empty: the text is blank
  QaRow qa;
  bool was_mended = false;
};

/// Keeps references to tokenizer and options. Safe from many threads.
class RecordTokenizer {
 public:
  /// Throws UsageError for formats without exactly one {}.
  RecordTokenizer(const Tokenizer& tokenizer, const BuildOptions& options);

  /// Throws Error naming file and line for JSON that is not valid UTF-8 or lacks a field.
  TokenizedRecord tokenize(const InputRecord& record) const;
  /// Ids of the format's header.
  std::vector<int64_t> header() const;

 private:
  std::vector<int64_t> encode_document(const std::string& text) const;
  QaRow tokenize_qa(const Json& row, const std::string& where) const;

  const Tokenizer* tokenizer_;
  const BuildOptions* options_;
  TextFrame document_, question_, answer_;
};

}  // namespace ssa
