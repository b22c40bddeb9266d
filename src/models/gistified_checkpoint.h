// A checkpoint seen with gist tokens at the end of its vocabulary.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "checkpoint/checkpoint.h"
#include "gist/gist_settings.h"

namespace ssa {

/// <gist>, <Gist> and <MGist>, in this order.
inline constexpr int64_t kGistTokenCount = 3;

/// True for the tables with a row for each token: the embedding and the output layer.
bool is_vocabulary(const std::string& tensor);

/// Rows of the vocabulary that tokens use: the tokenizer's length, or all where there is no
/// tokenizer. Throws Error if the checkpoint has gist tokens already, or has fewer rows than its
/// tokenizer has tokens.
int64_t rows_in_use(const Checkpoint& source);

/// The source with its first `n_kept` rows of the vocabulary and three behind them, the mean of
/// those kept (arXiv 2604.20920, section 4). config.json's key "gist" holds the settings with their
/// ids, and the tokenizer knows them as special tokens, unless padding rows lie before them: its
/// ids have no gaps. Const methods are as safe as the source's.
class GistifiedCheckpoint : public Checkpoint {
 public:
  GistifiedCheckpoint(std::shared_ptr<const Checkpoint> source,
                      GistSettings settings,
                      int64_t n_kept);

  std::string format() const override { return source_->format(); }
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override { return source_->tensor_names(); }
  bool has_tensor(const std::string& name) const override { return source_->has_tensor(name); }
  DType tensor_dtype(const std::string& name) const override { return source_->tensor_dtype(name); }
  uint64_t tensor_bytes() const override { return source_->tensor_bytes(); }
  Json tokenizer_config() const override { return source_->tokenizer_config(); }
  std::optional<std::string> chat_template() const override { return source_->chat_template(); }
  Json generation_config() const override { return source_->generation_config(); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override;
  HostTensor tensor(const std::string& name) const override;
  Json tokenizer_json() const override;

 private:
  std::shared_ptr<const Checkpoint> source_;
  int64_t n_kept_;
  ModelConfig config_;
};

}  // namespace ssa
