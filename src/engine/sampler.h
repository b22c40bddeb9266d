// From logits to the next token.
#pragma once

#include <cstdint>
#include <random>
#include <span>
#include <unordered_set>
#include <vector>

namespace ssa {

/// Applied in transformers' order: repetition penalty, temperature, top-k, top-p, min-p.
struct SamplingOptions {
  double temperature = 0.0;  // 0: the most likely token, whatever the rest says
  int64_t top_k = 0;         // 0: all
  double top_p = 1.0;        // 1: all
  double min_p =
      0.0;  // 0: all; else tokens at least this share of the most likely one's probability
  double repetition_penalty = 1.0;  // on tokens seen in the prompt or the answer (arXiv 1909.05858)
  uint64_t seed = 0;
};

/// Throws Error naming the first value out of range.
void validate(const SamplingOptions& options);

/// Draws tokens; equal seeds, options and logits give equal tokens on every machine. Not
/// thread-safe.
class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);

  /// Counts a token as seen, for the repetition penalty.
  void observe(int64_t token);
  /// The next token by its logits [vocab_size]; does not observe it. Ties go to the lower id.
  int64_t sample(std::span<const float> logits);

 private:
  int64_t draw(std::vector<float>& logits);

  SamplingOptions options_;
  std::mt19937_64 random_;
  std::unordered_set<int64_t> seen_;
};

}  // namespace ssa
