// A gist adapter on a model: low-rank updates of its linear layers, and rows for the gist tokens
// behind its vocabulary. The base's weights stay as they are, and are not copied.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "checkpoint/adapter_files.h"
#include "checkpoint/checkpoint.h"
#include "gist/gist_settings.h"
#include "models/causal_lm.h"

namespace ssa {

/// Put onto one model, for as long as that lives. Switched off, every layer computes what the base
/// computes, bit by bit, and the vocabulary ends where the base's does. Not to be changed while the
/// model runs.
class Adapter {
 public:
  /// A fresh one, which changes nothing yet: A is drawn from `seed` as peft draws it (uniform up to
  /// 1 / sqrt(n_in)), B is zero, gists are the mean of the vocabulary's first `n_text_rows` rows.
  /// `held`: what parameters are held in, at least float32 for training.
  static std::shared_ptr<Adapter> make(CausalLM& model,
                                       const AdapterConfig& config,
                                       int64_t n_text_rows,
                                       uint64_t seed,
                                       torch::ScalarType held);
  /// From files. An untied model's output rows of gists, where peft trained none, are the mean of
  /// all. Throws Error as AdapterFiles::check_fits.
  static std::shared_ptr<Adapter> load(CausalLM& model,
                                       const AdapterFiles& files,
                                       torch::ScalarType held);

  const AdapterConfig& config() const { return config_; }
  const std::shared_ptr<LowRankSwitch>& power() const { return switch_; }

  /// Packs the updates for decoding, where the model's device and dtype have kernels for it (CPU,
  /// float32 and bfloat16). They are not to be changed afterwards.
  void pack(const CausalLM& model);

  /// What training changes, in the order of the forward pass; they are leaves without gradients.
  std::vector<std::pair<std::string, Tensor>> parameters() const;
  /// Numbers that a token is multiplied with.
  int64_t n_weights() const;
  /// Under peft's names, rounded to `dtype`.
  std::vector<NamedTensor> tensors(torch::ScalarType dtype) const;

 private:
  Adapter(CausalLM& model, const AdapterConfig& config, torch::ScalarType held);

  struct Update {
    std::vector<std::string> layers;  // empty names where a layer is not adapted
    PackedUpdate::Form form;          // that suits their weights
    std::shared_ptr<LowRank> low_rank;
  };
  /// Calls f(layer, A, B) for all adapted layers.
  template <class F>
  void for_each_layer(const F& f) const;

  AdapterConfig config_;
  std::shared_ptr<LowRankSwitch> switch_ = std::make_shared<LowRankSwitch>();
  std::vector<Update> updates_;
  GistRows rows_;
};

/// The base as gist_config.json remembers it: shapes, vocabulary, tokenizer_fingerprint().
Json describe_base(const Checkpoint& base);
/// Throws Error if the adapter was made for another base: which, and in what they differ.
void check_base(const AdapterFiles& files, const Checkpoint& base);

/// What gist_config.json says of the layout, else the defaults; ids are those of the adapter's
/// rows.
GistSettings adapter_gists(const AdapterFiles& files);
/// Content of gist_config.json. `gists` may be null: an adapter without gist rows.
Json adapter_gist_config(const Checkpoint& base, const GistSettings* gists);

/// Base and adapter as one checkpoint: gists behind the vocabulary (or behind its first `n_kept`
/// rows), low-rank updates added to the weights as they are read. It keeps both alive. Throws Error
/// as check_base and check_fits.
std::unique_ptr<Checkpoint> merged_checkpoint(std::shared_ptr<const Checkpoint> base,
                                              std::shared_ptr<const AdapterFiles> files,
                                              int64_t n_kept);

}  // namespace ssa
