// A checkpoint on disk, whatever its format: tensors under Hugging Face names, configuration,
// tokenizer.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/host_tensor.h"
#include "checkpoint/model_config.h"

namespace ssa {

/// Read-only; const methods are safe from many threads. Tensors are mapped, not read, where the
/// file's type allows it.
class Checkpoint {
 public:
  virtual ~Checkpoint() = default;

  /// "safetensors" or "GGUF Q4_1, Q6_K": for people.
  virtual std::string format() const = 0;
  virtual const ModelConfig& config() const = 0;
  /// Hugging Face names ("model.layers.0.self_attn.q_proj.weight"), sorted.
  virtual std::vector<std::string> tensor_names() const = 0;
  virtual bool has_tensor(const std::string& name) const = 0;
  virtual std::vector<int64_t> tensor_shape(const std::string& name) const = 0;
  /// The element type that tensor() returns. Overridden where that is known without reading the
  /// tensor.
  virtual DType tensor_dtype(const std::string& name) const { return tensor(name).dtype; }
  /// The tensor in Hugging Face's layout. GGUF block formats arrive dequantised to F32, llama-arch
  /// q and k rows in Hugging Face's order. Throws Error naming the tensor if it is missing or its
  /// bytes are not all there.
  virtual HostTensor tensor(const std::string& name) const = 0;
  /// The tensor's blocks of 8-bit weights, where the file holds such (GGUF's Q8_0: f16 scale and 32
  /// signed bytes), rows in Hugging Face's order: [n_rows, n_blocks * 34] U8. Nothing where it
  /// holds another type.
  virtual std::optional<HostTensor> int8_blocks(const std::string& /*name*/) const {
    return std::nullopt;
  }
  /// Bytes of all tensors as stored.
  virtual uint64_t tensor_bytes() const = 0;

  /// Content of tokenizer.json (for GGUF: made from its metadata), or null.
  virtual Json tokenizer_json() const = 0;
  /// Content of tokenizer_config.json, or null.
  virtual Json tokenizer_config() const = 0;
  /// The Jinja source: chat_template.jinja, else tokenizer_config.json's chat_template; absent if
  /// there is none.
  virtual std::optional<std::string> chat_template() const = 0;
  /// Content of generation_config.json, or null.
  virtual Json generation_config() const = 0;
};

/// Opens a Hugging Face directory (config.json and safetensors) or a .gguf file. Throws Error in
/// one line that says what was found and what is supported.
std::unique_ptr<Checkpoint> open_checkpoint(const std::filesystem::path& path);
/// The two readers behind it.
std::unique_ptr<Checkpoint> open_hf_checkpoint(const std::filesystem::path& folder);
std::unique_ptr<Checkpoint> open_gguf_checkpoint(const std::filesystem::path& file);

}  // namespace ssa
