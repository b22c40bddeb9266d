#include "evaluation/eval_prompt.h"

#include <algorithm>

#include "base/error.h"
#include "tokenizer/text_frame.h"

namespace ssa {
namespace {

using Ids = std::vector<int64_t>;

Ids encode_field(const Tokenizer& tokenizer, const std::string& format, const std::string& text) {
  return encode_framed(tokenizer, parse_text_frame(format), text);
}

/// Tokens of a document that hold any of the bytes, counted behind the frame that is in front.
/// Tokens stand for bytes one by one unless the tokenizer's normaliser changes the text.
Range tokens_of_bytes(const Tokenizer& tokenizer, const Ids& ids, Range bytes) {
  Range tokens{0, 0};
  int64_t byte = 0;
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t next = byte + static_cast<int64_t>(tokenizer.token_bytes(ids[i]).size());
    if (next <= bytes.begin) {
      tokens.begin = static_cast<int64_t>(i) + 1;
    }
    if (byte < bytes.end) {
      tokens.end = static_cast<int64_t>(i) + 1;
    }
    byte = next;
  }
  return tokens;
}

/// Ids that stay in front of the suffix where nothing of the prefix does.
Ids lead_of(const Tokenizer& tokenizer) {
  return tokenizer.encode("", {.add_special = true});
}

void split_text(EvalPrompt& prompt,
                const EvalItem& item,
                const Tokenizer& tokenizer,
                const PromptFormat& format) {
  if (item.text.empty()) {
    prompt.pieces = {tokenizer.encode(item.prefix, {.parse_special = false})};
    prompt.suffix = tokenizer.encode(item.suffix, {.add_special = false, .parse_special = false});
    check(prompt.suffix.size() >= 2, item.where, ": field 'suffix' has fewer than two tokens");
    return;
  }
  Ids ids = tokenizer.encode(item.text, {.parse_special = false});
  const auto n = static_cast<int64_t>(ids.size()), n_suffix = format.suffix_tokens;
  const int64_t wanted = format.prefix_tokens > 0 ? format.prefix_tokens : 1;
  check(n >= wanted + n_suffix,
        item.where,
        ": the text has ",
        n,
        " tokens; a prefix of ",
        wanted,
        " and a suffix of ",
        n_suffix,
        " need ",
        wanted + n_suffix);
  const int64_t n_prefix = format.prefix_tokens > 0 ? format.prefix_tokens : n - n_suffix;
  prompt.pieces = {Ids(ids.begin(), ids.begin() + n_prefix)};
  prompt.suffix.assign(ids.begin() + n_prefix, ids.begin() + n_prefix + n_suffix);
}

void lay_out_question(EvalPrompt& prompt,
                      const EvalItem& item,
                      const Tokenizer& tokenizer,
                      const QaFormat& format) {
  Ids header =
      format.header.empty() ? prompt.lead : tokenizer.encode(format.header, {.add_special = false});
  if (!header.empty()) {
    prompt.pieces.push_back(std::move(header));
  }
  std::vector<int64_t> begins;  // of each document, in raw tokens
  for (const std::string& document : item.documents) {
    begins.push_back(prompt.n_prefix());
    prompt.pieces.push_back(encode_field(tokenizer, format.document, document));
    check(!prompt.pieces.back().empty(), item.where, ": a document has no tokens");
  }
  const auto frame = static_cast<int64_t>(parse_text_frame(format.document).before.size());
  for (const EvidenceSpan& span : item.gold) {
    const auto i = static_cast<size_t>(span.document);
    const Ids& ids = prompt.pieces[prompt.pieces.size() - item.documents.size() + i];
    const auto n_bytes = static_cast<int64_t>(item.documents[i].size());
    const Range bytes = span.bytes.end < 0 ? Range{0, n_bytes} : span.bytes;
    const Range tokens = tokens_of_bytes(tokenizer, ids, {bytes.begin + frame, bytes.end + frame});
    prompt.evidence.push_back({begins[i] + tokens.begin, begins[i] + tokens.end});
  }
  prompt.suffix = encode_field(tokenizer, format.question, item.question);
  prompt.answer = encode_field(tokenizer, format.answer, item.answers.front());
  check(!prompt.suffix.empty(), item.where, ": the question has no tokens");
  check(!prompt.answer.empty(), item.where, ": the answer has no tokens");
}

}  // namespace

int64_t EvalPrompt::n_prefix() const {
  size_t n = 0;
  for (const Ids& piece : pieces) {
    n += piece.size();
  }
  return static_cast<int64_t>(n);
}

PromptFormat default_format(EvalTask task) {
  PromptFormat format;
  if (task == EvalTask::kNiah || task == EvalTask::kKv) {
    format.qa.document = "{}";
    format.qa.question = "\n{}";
  }
  return format;
}

EvalPrompt make_eval_prompt(const EvalItem& item,
                            const Tokenizer& tokenizer,
                            const PromptFormat& format) {
  EvalPrompt prompt;
  prompt.id = item.id;
  prompt.where = item.where;
  prompt.answers = item.answers;
  prompt.lead = lead_of(tokenizer);
  if (item.documents.empty()) {
    split_text(prompt, item, tokenizer, format);
  } else {
    lay_out_question(prompt, item, tokenizer, format.qa);
  }
  return prompt;
}

}  // namespace ssa
