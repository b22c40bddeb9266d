// What `generate` and `ask` share: flags, a loaded model, and answers to prompts that may begin alike.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/attention_flags.h"
#include "cli/model_flags.h"
#include "cli/unfolding_record.h"
#include "engine/generator.h"

namespace ssa {

struct GenerationFlags {
  ModelFlags model;
  AttentionFlags attention;
  SamplingOptions sampling;
  int64_t predict = -1;
  int64_t ctx_size = 0;
  int64_t batch_size = 512;
  std::vector<std::string> stop;
  bool ignore_eos = false;
};

/// Adds all but the model itself.
void add_generation_flags(CLI::App& app, GenerationFlags& flags);

/// Answers prompts, printing to standard output as text comes and speeds to standard error. A prompt whose pieces are
/// those of the one before is read from its suffix on.
class GenerationSession {
 public:
  explicit GenerationSession(const GenerationFlags& flags);

  void answer(const PromptParts& parts);

  const Checkpoint& checkpoint() const { return *loaded_.checkpoint; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  /// Of the last answer.
  const UnfoldingRecord& record() const { return record_; }
  /// The last prompt's layout; null in full mode.
  const GistLayout* layout() const { return prompt_.layout ? &*prompt_.layout : nullptr; }

 private:
  int64_t tokens_to_predict(int64_t n_prompt) const;
  int64_t begin_sequence(const PromptParts& parts, int64_t n_new);
  void report(const GenerateResult& result, int64_t n_cached) const;

  const GenerationFlags& flags_;
  LoadedModel loaded_;
  Tokenizer tokenizer_;
  AttentionPlan plan_;
  std::vector<std::vector<int64_t>> pieces_;  // of the prompt that sequence_ has read
  LaidPrompt prompt_;
  std::unique_ptr<Sequence> sequence_;
  UnfoldingRecord record_;
};

}  // namespace ssa
