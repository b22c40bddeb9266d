// The generation loop: a prompt in, text out as it comes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/sampler.h"
#include "engine/sequence.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

struct GenerateOptions {
  int64_t max_new_tokens = 256;
  int64_t prefill_piece = 512;  // tokens a forward pass of the prompt
  int64_t n_cached = 0;         // tokens of the prompt that the sequence has read already
  SamplingOptions sampling = {};
  std::vector<std::string> stop = {};     // strings that end the answer; not part of it
  std::vector<int64_t> stop_tokens = {};  // tokens that end it (EOS); not part of it
  std::vector<int64_t> forbidden = {};    // tokens never generated
  /// Told which token comes next, and the position of the one before it, before it is fed: what
  /// closes chunks.
  std::function<void(int64_t token, int64_t position)> before_token = {};
  std::function<void(std::string_view)> on_text = {};  // each complete piece of text
  ProgressFn on_prefill = {};                          // in tokens of the prompt
  std::function<bool()> is_stopped = {};  // asked before each token behind the first; true: no more
};

enum class FinishReason { kStop, kLength, kInterrupted };

struct GenerateResult {
  std::vector<int64_t> ids;  // generated, without the stop token
  std::string text;
  FinishReason finish = FinishReason::kLength;
  int64_t prompt_tokens = 0;  // read now: without those cached
  double prefill_seconds = 0;
  int64_t decode_passes = 0;  // one a token, less the first, whose pass is the prompt's
  double decode_seconds = 0;  // of those passes
};

/// Reads `prompt` and generates. Position i of the sequence continues behind the prompt's last
/// position.
GenerateResult generate(const Tokenizer& tokenizer,
                        Sequence& sequence,
                        std::span<const int64_t> prompt,
                        std::span<const int64_t> positions,  // as long as prompt
                        const GenerateOptions& options);

}  // namespace ssa
