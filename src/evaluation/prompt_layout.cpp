#include "evaluation/prompt_layout.h"

#include <algorithm>

#include "base/error.h"

namespace ssa {

GistLayout lay_prefix(const EvalModel& model, const EvalPrompt& prompt, const ChunkSizes& chunk) {
  GistSettings settings = model.settings;
  settings.chunk = chunk;
  settings.word_aware = model.boundaries != nullptr;
  InterleaveOptions options;
  options.boundaries = model.boundaries;
  options.bos_id = model.model.config().bos_token_id;
  return lay_pieces(prompt.pieces, settings, options);
}

GistLayout with_suffix(GistLayout prefix, const EvalPrompt& prompt, const EvalOptions& options) {
  prefix.append_raw(std::vector<int64_t>(static_cast<size_t>(most_suffix_tokens(prompt, options))));
  return prefix;
}

int64_t most_new_tokens(const EvalPrompt& prompt, const EvalOptions& options) {
  return options.predict > 0 ? options.predict : static_cast<int64_t>(prompt.answer.size());
}

int64_t most_suffix_tokens(const EvalPrompt& prompt, const EvalOptions& options) {
  return static_cast<int64_t>(prompt.suffix.size() + prompt.answer.size()) +
         most_new_tokens(prompt, options);
}

std::vector<int64_t> joined_pieces(const EvalPrompt& prompt) {
  std::vector<int64_t> ids;
  for (const auto& piece : prompt.pieces) {
    ids.insert(ids.end(), piece.begin(), piece.end());
  }
  return ids;
}

ForcedSuffix forced_suffix(const EvalPrompt& prompt) {
  ForcedSuffix forced{prompt.suffix};
  forced.ids.insert(forced.ids.end(), prompt.answer.begin(), prompt.answer.end());
  forced.first = prompt.answer.empty() ? 0 : static_cast<int64_t>(prompt.suffix.size()) - 1;
  return forced;
}

void check_prompt(const EvalSetup& setup, const EvalPrompt& prompt) {
  const ModelConfig& config = setup.model.model.config();
  const int64_t n_new = prompt.answer.empty() ? 0 : most_new_tokens(prompt, setup.options);
  const auto n_answer = static_cast<int64_t>(prompt.answer.size());
  const int64_t n =
      prompt.n_prefix() + static_cast<int64_t>(prompt.suffix.size()) + std::max(n_new, n_answer);
  check(n <= config.max_position_embeddings,
        prompt.where,
        ": ",
        n,
        " tokens with the answer; the model has ",
        config.max_position_embeddings,
        " positions");
  const std::vector<int64_t> prefix = joined_pieces(prompt), suffix = forced_suffix(prompt).ids;
  for (const std::vector<int64_t>* ids : {&prefix, &suffix}) {
    for (const int64_t id : *ids) {
      check(id >= 0 && id < config.vocab_size,
            prompt.where,
            ": token id ",
            id,
            " is outside the vocabulary of ",
            config.vocab_size);
    }
  }
}

}  // namespace ssa
