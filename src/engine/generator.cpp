#include "engine/generator.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "base/error.h"
#include "engine/stop_strings.h"

namespace ssa {
namespace {

class Stopwatch {
 public:
  /// Seconds since construction or the last lap.
  double lap() {
    const auto now = std::chrono::steady_clock::now();
    const std::chrono::duration<double> elapsed = now - start_;
    start_ = now;
    return elapsed.count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Tokens to text to the caller, through the incomplete-character and the stop-string filters.
class TextOutput {
 public:
  TextOutput(const Tokenizer& tokenizer, const GenerateOptions& options, GenerateResult& result)
      : detokenizer_(tokenizer), stops_(options.stop), options_(options), result_(result) {}

  void push(int64_t token) { emit(stops_.push(detokenizer_.push(token))); }
  void finish() {
    emit(stops_.push(detokenizer_.finish()));
    if (!stops_.stopped()) {
      emit(stops_.finish());
    }
  }
  bool stopped() const { return stops_.stopped(); }

 private:
  void emit(const std::string& text) {
    result_.text += text;
    if (!text.empty() && options_.on_text) {
      options_.on_text(text);
    }
  }

  Detokenizer detokenizer_;
  StopStrings stops_;
  const GenerateOptions& options_;
  GenerateResult& result_;
};

int64_t next_token(Sampler& sampler, Tensor& logits, const std::vector<int64_t>& forbidden) {
  auto* values = logits.mutable_data_ptr<float>();
  for (const int64_t token : forbidden) {
    values[token] = -std::numeric_limits<float>::infinity();
  }
  return sampler.sample({values, static_cast<size_t>(logits.numel())});
}

}  // namespace

GenerateResult generate(const Tokenizer& tokenizer,
                        Sequence& sequence,
                        std::span<const int64_t> prompt,
                        std::span<const int64_t> positions,
                        const GenerateOptions& options) {
  const auto n_cached = static_cast<size_t>(options.n_cached);
  check(prompt.size() > n_cached, "the prompt is empty: there is nothing to continue");
  check(options.max_new_tokens >= 0,
        "number of tokens to predict ",
        options.max_new_tokens,
        " is below 0");
  const torch::InferenceMode inference;
  GenerateResult result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size() - n_cached);
  Sampler sampler(options.sampling);
  std::for_each(prompt.begin(), prompt.end(), [&](int64_t token) { sampler.observe(token); });
  TextOutput output(tokenizer, options, result);

  Stopwatch watch;
  Tensor logits = sequence.last_logits(prompt.subspan(n_cached),
                                       positions.subspan(n_cached),
                                       options.prefill_piece,
                                       options.on_prefill);
  result.prefill_seconds = watch.lap();
  int64_t position = positions.back();
  while (static_cast<int64_t>(result.ids.size()) < options.max_new_tokens) {
    const int64_t token = next_token(sampler, logits, options.forbidden);
    const auto& stops = options.stop_tokens;
    if (std::find(stops.begin(), stops.end(), token) != stops.end()) {
      result.finish = FinishReason::kStop;
      break;
    }
    result.ids.push_back(token);
    sampler.observe(token);
    output.push(token);
    if (output.stopped()) {
      result.finish = FinishReason::kStop;
      break;
    }
    if (options.is_stopped && options.is_stopped()) {
      result.finish = FinishReason::kInterrupted;
      break;
    }
    if (static_cast<int64_t>(result.ids.size()) < options.max_new_tokens) {
      if (options.before_token) {
        options.before_token(token, position);
      }
      ++position;
      logits = sequence.last_logits({&token, 1}, {&position, 1}, 1);
      ++result.decode_passes;
    }
  }
  output.finish();
  result.decode_seconds = watch.lap();
  return result;
}

}  // namespace ssa
