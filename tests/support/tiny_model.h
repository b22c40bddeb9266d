// Tiny models: the golden ones on disk, and checkpoints in memory that tests may spoil.
#pragma once

#include <torch/types.h>

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "checkpoint/checkpoint.h"
#include "checkpoint/safetensors.h"
#include "tensor/convert.h"

namespace ssa {

/// tests/golden/models: see tools/golden/make_model_golden.py.
inline const std::vector<std::string> kGoldenModels = {"llama-mha",
                                                       "llama-gqa3-tied-llama3",
                                                       "llama-mqa-yarn",
                                                       "qwen2-gqa7-tied",
                                                       "qwen2-linear",
                                                       "qwen3-gqa2",
                                                       "llama-nsa"};

struct GoldenModel {
  std::unique_ptr<Checkpoint> checkpoint;
  Tensor ids;     // [n_tokens] int64
  Tensor rows;    // [n_rows] int64: the tokens whose logits are known
  Tensor logits;  // [n_rows, vocab_size] f32
};

inline GoldenModel open_golden_model(const std::string& name) {
  const auto folder = std::filesystem::path(SSA_GOLDEN_DIR) / "models" / name;
  const SafetensorsFile expected(folder / "expected.safetensors");
  return {open_hf_checkpoint(folder),
          to_tensor(expected.tensor("ids")),
          to_tensor(expected.tensor("rows")),
          to_tensor(expected.tensor("logits"))};
}

/// A checkpoint without a file.
class MemoryCheckpoint : public Checkpoint {
 public:
  MemoryCheckpoint(ModelConfig config, std::map<std::string, Tensor> tensors)
      : config_(std::move(config)), tensors_(std::move(tensors)) {}
  /// All tensors of another one.
  explicit MemoryCheckpoint(const Checkpoint& other) : config_(other.config()) {
    for (const std::string& name : other.tensor_names()) {
      tensors_[name] = to_tensor(other.tensor(name)).clone();
    }
  }

  std::map<std::string, Tensor>& tensors() { return tensors_; }

  std::string format() const override { return "memory"; }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override {
    std::vector<std::string> names;
    for (const auto& [name, tensor] : tensors_) {
      names.push_back(name);
    }
    return names;
  }
  bool has_tensor(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    return tensors_.at(name).sizes().vec();
  }
  HostTensor tensor(const std::string& name) const override {
    check(has_tensor(name), "no tensor ", name);
    return to_host(tensors_.at(name));
  }
  uint64_t tensor_bytes() const override {
    uint64_t bytes = 0;
    for (const auto& [name, tensor] : tensors_) {
      bytes += tensor.nbytes();
    }
    return bytes;
  }
  Json tokenizer_json() const override { return nullptr; }
  Json tokenizer_config() const override { return nullptr; }
  std::optional<std::string> chat_template() const override { return {}; }
  Json generation_config() const override { return nullptr; }

 private:
  ModelConfig config_;
  std::map<std::string, Tensor> tensors_;
};

}  // namespace ssa
