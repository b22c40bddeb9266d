// A GGUF file as a checkpoint.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "checkpoint/checkpoint.h"
#include "checkpoint/gguf_file.h"

namespace ssa {

/// Tensors that are plain numbers in Hugging Face's order are mapped; the others (block formats,
/// and q and k of architecture "llama") are made anew by each call of tensor().
class GgufCheckpoint : public Checkpoint {
 public:
  /// Throws Error "FILE: ..." for a broken file, an unsupported model, or a tensor that the model
  /// cannot have.
  explicit GgufCheckpoint(std::shared_ptr<const GgufFile> file);

  std::string format() const override;
  const ModelConfig& config() const override { return config_; }
  std::vector<std::string> tensor_names() const override;
  bool has_tensor(const std::string& name) const override { return tensors_.contains(name); }
  std::vector<int64_t> tensor_shape(const std::string& name) const override;
  DType tensor_dtype(const std::string& name) const override;
  HostTensor tensor(const std::string& name) const override;
  std::optional<HostTensor> int8_blocks(const std::string& name) const override;
  uint64_t tensor_bytes() const override;
  Json tokenizer_json() const override;
  Json tokenizer_config() const override;
  std::optional<std::string> chat_template() const override;
  Json generation_config() const override;

  const GgufFile& file() const { return *file_; }
  /// The tensor of that Hugging Face name as the file stores it: its type, and for q and k of
  /// architecture "llama" its order of rows. Throws Error if there is none.
  const GgufTensor& stored_tensor(const std::string& name) const;

 private:
  HostTensor plain_tensor(const GgufTensor& stored) const;
  /// The same rows in Hugging Face's order. `plain` is `stored` in any form that keeps its rows.
  HostTensor in_hf_order(const std::string& name,
                         const GgufTensor& stored,
                         const HostTensor& plain) const;

  std::shared_ptr<const GgufFile> file_;
  ModelConfig config_;
  std::map<std::string, const GgufTensor*> tensors_;  // by Hugging Face name
};

}  // namespace ssa
