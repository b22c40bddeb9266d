// The items that tasks are made of, one a line of a .jsonl file.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "gist/gist_layout.h"

namespace ssa {

enum class EvalTask { kPpl, kNiah, kKv, kQa };
const char* eval_task_name(EvalTask task);
/// "ppl", "niah", "kv", "qa"; throws UsageError for another name.
EvalTask parse_eval_task(const std::string& name);

/// Where an answer's evidence stands: bytes of a document; all of it where they are {0, -1}.
struct EvidenceSpan {
  int64_t document = 0;
  Range bytes = {0, -1};
};

struct EvalItem {
  std::string id;     // the line's field "id", else its number
  std::string where;  // "FILE line 3"
  // ppl: either text, or prefix and suffix.
  std::string text, prefix, suffix;
  // The other tasks.
  std::vector<std::string> documents;
  std::string question;
  std::vector<std::string> answers;  // the first one is scored by likelihood
  std::vector<EvidenceSpan> gold;    // may be empty
};

/// ppl: {"text"} or {"prefix", "suffix"}; else {"documents": [...]} or {"context"}, "question",
/// "answers": [...] or "answer", and perhaps "evidence" or else "gold": numbers of documents, from
/// 0, or [document, first, behind] in characters. Other fields are passed over. Throws Error naming
/// file and line for anything else, for ids that occur twice, and for a file without items.
std::vector<EvalItem> read_eval_items(EvalTask task, const std::filesystem::path& path);

/// One line's content.
EvalItem parse_eval_item(EvalTask task, const Json& line, const std::string& where);

}  // namespace ssa
