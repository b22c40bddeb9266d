// What `generate` and `ask` share: flags, a loaded model, and answers to prompts that may begin
// alike.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "cli/attention_plan.h"
#include "cli/model_flags.h"
#include "cli/unfolding_record.h"
#include "engine/generator.h"
#include "engine/prefix_file.h"

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
  bool close_chunks = false;
  std::string prefix_file;
};

/// Adds all but the model itself.
void add_generation_flags(CLI::App& app, GenerationFlags& flags);

/// Answers prompts, printing to standard output as text comes and speeds to standard error. A
/// prompt whose pieces are those of the one before is read from its suffix on.
class GenerationSession {
 public:
  /// Opens files and reads no weights: prompts can be checked before load(). records_chunks:
  /// record() tells which chunks were unfolded, and not only how many keys were attended.
  explicit GenerationSession(const GenerationFlags& flags, bool records_chunks = false);
  /// On a model that is loaded, and shared.
  GenerationSession(const GenerationFlags& flags, LoadedModel loaded, bool records_chunks);

  /// Throws Error where a prompt of so many tokens leaves no room for the answer.
  void check_fits(int64_t n_prompt) const;
  void load();
  /// Once loaded. Ctrl-C while the answer is written ends the answer, and Interrupted is thrown
  /// when all has been reported; the next prompt may follow.
  void answer(const PromptParts& parts);

  const LoadedModel& loaded() const { return loaded_; }
  const Checkpoint& checkpoint() const { return *opened_.checkpoint; }
  const Tokenizer& tokenizer() const { return tokenizer_; }
  /// Of the last answer.
  const UnfoldingRecord& record() const { return record_; }
  /// What the record's ordinals stand for; absent where nothing was chosen (full attention).
  std::optional<ShownChunks> shown_chunks() const;

 private:
  int64_t context() const;
  int64_t tokens_to_predict(int64_t n_prompt) const;
  void plan();
  int64_t begin_sequence(const PromptParts& parts, int64_t n_new);
  PrefixState prefix_state(const PromptParts& parts, const PagedKvCache& cache) const;
  int64_t load_prefix_file(const PromptParts& parts);
  void save_prefix_file(const PromptParts& parts);
  void report(const GenerateResult& result, int64_t n_cached) const;

  const GenerationFlags& flags_;
  OpenedModel opened_;
  ModelConfig config_;
  Tokenizer tokenizer_;
  LoadedModel loaded_;
  AttentionPlan sparse_plan_;  // as the flags say
  AttentionPlan plan_;         // the last prompt's: full attention below --dense-below
  std::vector<std::vector<int64_t>> pieces_;  // of the prompt that sequence_ has read
  LaidPrompt prompt_;
  std::vector<int64_t> answer_;  // the last one's tokens
  std::unique_ptr<Sequence> sequence_;
  UnfoldingRecord record_;
  bool prefix_is_saved_ = false;
};

}  // namespace ssa
