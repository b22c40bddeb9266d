// Low-rank adapters on disk, as Python's peft writes and reads them:
//
//   adapter_config.json         rank, alpha, which layers, ids of the trained rows of the
//   vocabulary adapter_model.safetensors   base_model.model.LAYER.lora_A.weight [rank, n_in],
//   lora_B [n_out, rank]
//                               base_model.model.model.embed_tokens.token_adapter
//                                   .trainable_tokens_delta [3, hidden_size]; lm_head's where
//                                   untied
//   gist_config.json            ours: how gists are laid, and the base; peft ignores it
//
// Format: peft 0.21 (huggingface/peft, utils/save_and_load.py), checked by tools/compare_peft.py.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "base/json.h"
#include "checkpoint/model_config.h"
#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_writer.h"

namespace ssa {

/// The projections that may be adapted, in the order of the forward pass.
inline const std::vector<std::string> kAdaptableLayers = {
    "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"};

struct AdapterConfig {
  int64_t rank = 16;
  double alpha = 32;
  std::vector<std::string> targets = kAdaptableLayers;  // some of these
  std::vector<int64_t> gist_ids = {};                   // rows behind the base's; empty: none
  bool has_head_rows = false;  // lm_head's rows of gists are there too: an untied model's
  std::string base_name = {};  // for people

  double scale() const { return alpha / static_cast<double>(rank); }
};

/// Throws Error naming `what` unless rank and alpha are positive, and the targets are known, at
/// least one, and different.
void check_adapter(const AdapterConfig& config, const std::string& what);

/// Names of an adapter's tensors. `layer` is "model.layers.0.self_attn.q_proj".
std::string adapter_a_name(const std::string& layer);
std::string adapter_b_name(const std::string& layer);
/// `table` is "model.embed_tokens" or "lm_head".
std::string adapter_rows_name(const std::string& table);

/// A folder with an adapter, opened: the tensors are mapped. Safe to read from many threads.
class AdapterFiles {
 public:
  /// Throws Error naming folder and key for what is missing, contradicts itself, or uses something
  /// of peft's that is not supported (dora, bias, modules_to_save, patterns of layers, ...).
  explicit AdapterFiles(std::filesystem::path folder);
  /// True if the folder holds an adapter.
  static bool exist_in(const std::filesystem::path& folder);

  const std::filesystem::path& folder() const { return folder_; }
  const AdapterConfig& config() const { return config_; }
  /// Content of gist_config.json, or null: peft's own adapters have none.
  const Json& gist_config() const { return gist_config_; }
  HostTensor tensor(const std::string& name) const { return tensors_.tensor(name); }

  /// Throws Error naming the first tensor that an adapter of this base must have, and that is
  /// missing or has another shape (expected, found), or that it must not have.
  void check_fits(const ModelConfig& base) const;

 private:
  void check_shape(const std::string& name, const std::vector<int64_t>& expected) const;

  std::filesystem::path folder_;
  AdapterConfig config_;
  Json gist_config_;
  SafetensorsFile tensors_;
};

/// Writes the files into an existing folder. `gist_config`: null leaves the file out.
void write_adapter(const std::filesystem::path& folder,
                   const AdapterConfig& config,
                   const Json& gist_config,
                   const std::vector<NamedTensor>& tensors);

}  // namespace ssa
