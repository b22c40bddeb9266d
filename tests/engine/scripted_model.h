// A model that recites: behind position p its likeliest token is script[p + 1], whatever it has
// read.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "models/causal_lm.h"
#include "tokenizer/byte_alphabet.h"
#include "tokenizer/tokenizer.h"

namespace ssa {

/// One token a byte, and <eos> as token 256.
inline Tokenizer byte_tokenizer() {
  Json spec = parse_json(R"({
    "added_tokens": [{"id": 256, "content": "<eos>", "special": true, "normalized": false}],
    "normalizer": null, "post_processor": null, "decoder": {"type": "ByteLevel"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "use_regex": true},
    "model": {"type": "BPE", "vocab": {}, "merges": []}
  })",
                         "byte tokenizer");
  for (int byte = 0; byte < 256; ++byte) {
    const char letter = static_cast<char>(byte);
    spec["model"]["vocab"][bytes_to_token({&letter, 1})] = byte;
  }
  return Tokenizer::from_json(spec);
}

class ScriptedModel : public CausalLM {
 public:
  static constexpr int64_t kEos = 256;

  /// Recites the bytes of `text`, then <eos> for ever.
  explicit ScriptedModel(const std::string& text) {
    for (const char byte : text) {
      script_.push_back(static_cast<unsigned char>(byte));
    }
    config_.vocab_size = kEos + 1;
  }

  Tensor forward(const Tensor& ids, const Tensor& positions, AttentionContext&) override {
    n_seen += ids.size(0);
    largest_pass = std::max(largest_pass, ids.size(0));
    return positions.to(torch::kFloat32).unsqueeze(1);
  }
  Tensor logits(const Tensor& hidden) override {
    const Tensor rows = torch::zeros({hidden.size(0), config_.vocab_size});
    for (int64_t row = 0; row < hidden.size(0); ++row) {
      const auto next = static_cast<size_t>(hidden[row].item<float>()) + 1;
      rows[row][next < script_.size() ? script_[next] : kEos] = 1.0;
    }
    return rows;
  }
  const ModelConfig& config() const override { return config_; }
  torch::ScalarType dtype() const override { return torch::kFloat32; }
  torch::Device device() const override { return torch::kCPU; }

  int64_t n_seen = 0;        // tokens that went through forward()
  int64_t largest_pass = 0;  // most tokens in one call

 private:
  std::vector<int64_t> script_;
  ModelConfig config_;
};

}  // namespace ssa
