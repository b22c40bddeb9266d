// Making datasets of text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "base/progress.h"
#include "data/dataset_meta.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// What stands around the fields of a question-answer row, "{}" once in each. Special tokens are
/// honoured here, and are letters in the fields themselves. Each field is tokenised on its own. The
/// defaults are what `ssa ask` puts around them for a model without chat template.
struct QaFormat {
  std::string header = "";  // a piece of its own in front of the documents; no {}
  std::string document = "{}\n\n";
  std::string question = "{}\nAnswer:";
  std::string answer = " {}";
};

struct BuildOptions {
  /// .jsonl: an object a line; other files: documents.
  std::vector<std::filesystem::path> inputs = {};
  DatasetKind kind = DatasetKind::kText;
  std::string field = "text";                 // of .jsonl, kind text
  std::optional<std::string> separator = {};  // of documents; absent: a NUL byte
  std::optional<int64_t> eos_id = {};         // put behind every document or answer
  QaFormat format = {};                       // kind qa
  int threads = 0;                            // 0: one a core
  ProgressFn progress = {};                   // bytes of input
};

struct BuildReport {
  DatasetMeta meta;
  uint64_t n_blank = 0;   // documents without text, which were left out
  uint64_t n_mended = 0;  // documents of text files that were not UTF-8: broken parts became U+FFFD
};

/// Tokenises the inputs into a dataset at `folder`. A row of kind qa is {"documents": [...],
/// "question": ..., "answer": ...}; "context": ... stands for one document; "gold": [i, ...] says
/// which documents hold the answer (counted from 0). Memory does not grow with the data. Throws
/// Error naming file and line for a row that is not valid, and if there is no text at all; the
/// folder is then not there.
BuildReport build_dataset(const Tokenizer& tokenizer,
                          const BuildOptions& options,
                          const std::filesystem::path& folder);

}  // namespace ssa
