#include "training/sparse_checkpoint.h"

#include <utility>

#include "base/error.h"

namespace ssa {
namespace {

ModelConfig configured(ModelConfig config, const SparseSparseOptions& options) {
  config.nsa_block_size = options.blocks.block_size;
  config.nsa_block_counts = options.blocks.n_blocks;
  config.nsa_window_size = options.variant == SparseVariant::kNsa ? options.window : 0;
  config.nsa_inference_mode = options.variant == SparseVariant::kFullAttention ? "full" : "sparse";
  return config;
}

class SparseCheckpoint : public Checkpoint {
 public:
  SparseCheckpoint(std::shared_ptr<const Checkpoint> source, const SparseSparseOptions& options)
      : source_(std::move(source)), config_(configured(source_->config(), options)) {}

  std::string format() const override { return source_->format(); }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override { return source_->tensor_names(); }
  bool has_tensor(const std::string& name) const override { return source_->has_tensor(name); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override {
    return source_->tensor_shape(name);
  }
  DType tensor_dtype(const std::string& name) const override { return source_->tensor_dtype(name); }
  HostTensor tensor(const std::string& name) const override { return source_->tensor(name); }
  std::optional<HostTensor> int8_blocks(const std::string& name) const override {
    return source_->int8_blocks(name);
  }
  uint64_t tensor_bytes() const override { return source_->tensor_bytes(); }
  Json tokenizer_json() const override { return source_->tokenizer_json(); }
  Json tokenizer_config() const override { return source_->tokenizer_config(); }
  std::optional<std::string> chat_template() const override { return source_->chat_template(); }
  Json generation_config() const override { return source_->generation_config(); }

 private:
  std::shared_ptr<const Checkpoint> source_;
  ModelConfig config_;
};

}  // namespace

std::shared_ptr<const Checkpoint> with_sparse_settings(std::shared_ptr<const Checkpoint> source,
                                                       const SparseSparseOptions& options) {
  const Architecture architecture = source->config().architecture;
  if (architecture != Architecture::kLlamaNsa) {
    check(options.variant != SparseVariant::kNsa,
          "recipe: sparse.variant nsa weighs three branches by gates: it needs a llama-nsa model, "
          "not ",
          architecture_name(architecture));
    return source;
  }
  return std::make_shared<SparseCheckpoint>(std::move(source), options);
}

}  // namespace ssa
