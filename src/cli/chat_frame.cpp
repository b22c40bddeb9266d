#include "cli/chat_frame.h"

#include "base/error.h"
#include "base/json.h"
#include "cli/prompt_flags.h"
#include "tokenizer/chat_template.h"

namespace ssa {

ChatFrame make_chat_frame(const Checkpoint& checkpoint, const std::string& system) {
  const std::string marker =
      "[ssa:documents-and-question]";  // no white space that a template would trim
  Json messages = Json::array();
  if (!system.empty()) {
    messages.push_back({{"role", "system"}, {"content", system}});
  }
  messages.push_back({{"role", "user"}, {"content", marker}});
  ChatFrame frame;
  bool behind = false;
  for (const TextSpan& span : render_chat(checkpoint, messages)) {
    const size_t at = span.is_input ? span.text.find(marker) : std::string::npos;
    (behind ? frame.ending : frame.header).push_back({span.text.substr(0, at), span.is_input});
    if (at != std::string::npos) {
      behind = true;
      frame.ending.push_back({span.text.substr(at + marker.size()), span.is_input});
    }
  }
  check(behind, "the chat template does not show the user's message");
  return frame;
}

QaFormat chat_qa_format(const Checkpoint& checkpoint, const std::string& system) {
  const ChatFrame frame = make_chat_frame(checkpoint, system);
  return {.header = joined_text(frame.header),
          .document = "{}\n\n",
          .question = "{}" + joined_text(frame.ending),
          .answer = "{}"};
}

}  // namespace ssa
