// The chat template around documents and a question.
#pragma once

#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "data/dataset_builder.h"
#include "tokenizer/text_span.h"

namespace ssa {

/// What the template writes in front of a user's message and behind it.
struct ChatFrame {
  std::vector<TextSpan> header, ending;
};

/// `system`: the message in front; empty: none. Throws Error for a checkpoint without a template,
/// and for one that does not show the message.
ChatFrame make_chat_frame(const Checkpoint& checkpoint, const std::string& system);

/// The same as formats of a question-answer row: header in front of the documents, the rest behind
/// the question, as `ssa ask` puts a prompt together.
QaFormat chat_qa_format(const Checkpoint& checkpoint, const std::string& system = "");

}  // namespace ssa
