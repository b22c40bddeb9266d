// A model of a few thousand numbers in float64, and sequences of letters (gist/spelled_layout.h) to
// train it on.
#pragma once

#include <cmath>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "data/training_row.h"
#include "gist/spelled_layout.h"
#include "models/factory.h"
#include "training/batch.h"

namespace ssa {

inline Json tiny_config(bool tied = true) {
  return {{"architectures", {"LlamaForCausalLM"}},
          {"model_type", "llama"},
          {"vocab_size", 128},
          {"hidden_size", 24},
          {"intermediate_size", 40},
          {"num_hidden_layers", 3},
          {"num_attention_heads", 4},
          {"num_key_value_heads", 2},
          {"head_dim", 8},
          {"hidden_act", "silu"},
          {"max_position_embeddings", 512},
          {"rms_norm_eps", 1e-5},
          {"rope_theta", 10000.0},
          {"bos_token_id", kSpelledBos},
          {"eos_token_id", '$'},
          {"tie_word_embeddings", tied},
          {"gist",
           {{"token_ids", {'.', ':', '*'}}, {"chunk", {4}}, {"sink", 2}, {"word_aware", false}}}};
}

/// Weights large enough for attention to prefer some keys to others, and norms that are not all 1.
inline std::shared_ptr<CausalLM> tiny_model(uint64_t seed,
                                            bool tied = true,
                                            torch::ScalarType dtype = torch::kFloat64) {
  const auto model =
      make_random_model(parse_hf_config(tiny_config(tied), nullptr), seed, {.dtype = dtype});
  const torch::NoGradGuard no_grad;
  torch::manual_seed(static_cast<int64_t>(seed));
  for (Tensor& parameter : model->parameters()) {
    if (parameter.dim() == 1) {
      parameter.add_(torch::randn_like(parameter) * 0.2);
    } else {
      parameter.mul_(12);
    }
    parameter.set_requires_grad(true);
  }
  return model;
}

struct SequenceShape {
  ChunkSizes chunk;
  int64_t n_prefix, n_suffix;
  bool word_aware = false;  // chunks of uneven length
};

inline constexpr int64_t kTinySink = 2;

/// Random letters; targets are all raw tokens but every seventh.
inline TrainingSequence random_sequence(const SequenceShape& shape, std::mt19937& random) {
  static const WordBoundaries boundaries = spelled_boundaries();
  const auto letters = [&](int64_t n) {
    std::vector<int64_t> ids;
    for (int64_t i = 0; i < n; ++i) {
      ids.push_back((random() % 3 == 0 ? 'A' : 'a') + static_cast<int64_t>(random() % 26));
    }
    return ids;
  };
  GistLayout layout = lay_prefix(letters(shape.n_prefix),
                                 spelled_settings(shape.chunk, kTinySink, shape.word_aware),
                                 {.boundaries = &boundaries});
  layout.append_raw(letters(shape.n_suffix));
  std::vector<int64_t> targets(static_cast<size_t>(layout.n_tokens()), kNoTarget);
  for (size_t t = 0; t + 1 < targets.size(); ++t) {
    if (layout.levels()[t + 1] == kRawLevel && t % 7 != 6) {
      targets[t] = layout.ids()[t + 1];
    }
  }
  return {std::move(layout), std::move(targets)};
}

/// Other letters in the same layout.
inline TrainingSequence reworded(const TrainingSequence& sequence) {
  GistLayout layout(sequence.layout.chunk_sizes(), {'.', ':', '*'});
  for (int64_t t = 0; t < sequence.layout.n_tokens(); ++t) {
    const auto i = static_cast<size_t>(t);
    if (sequence.layout.levels()[i] == kRawLevel) {
      layout.append_raw('a' + (sequence.layout.ids()[i] + t) % 26);
    } else {
      layout.append_gist(sequence.layout.levels()[i]);
    }
  }
  TrainingSequence result{std::move(layout), sequence.targets};
  for (size_t t = 0; t + 1 < result.targets.size(); ++t) {
    result.targets[t] = result.targets[t] == kNoTarget ? kNoTarget : result.layout.ids()[t + 1];
  }
  return result;
}

}  // namespace ssa
